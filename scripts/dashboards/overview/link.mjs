/** Leads from a tenant's series to its dashboard, with the same variables. */
export const TENANT_LINK = {
  title: 'Open ${__field.labels.tenant}',
  url: '/d/patchgate-tenant?${datasource:queryparam}&${namespace:queryparam}&${job:queryparam}&var-tenant=${__field.labels.tenant}&${__url_time_range}',
};
