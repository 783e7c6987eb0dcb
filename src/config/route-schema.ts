import { z } from 'zod';
import { canonicalise } from '../routing/canonical-path.ts';
import { doc, flag, id, optional, pattern } from './option-types.ts';

/** The shape of a route. */
export const routeSchema = z.strictObject({
  match: doc(pattern(), { description: 'Method and path: `*` is one segment, `**` the rest. `GET` covers HEAD.' }),
  upstream: doc(id(), { description: 'Upstream for matching requests.' }),
  rewrite: doc(
    optional(
      z.string({ error: 'must be a path such as /api/v1' }).refine(isPath, {
        error: 'must be a path such as /api/v1, without wildcards, query, and empty or dot segments',
      }),
    ),
    {
      description:
        'Beginning of the path at the upstream, in place of the segments of `match` before its first wildcard: with `* /shop/**` and `/admin/v2`, `/shop/orders?page=2` is sent as `/admin/v2/orders?page=2`. The rest and the query follow unchanged. `allow`, cache rules, budgets and metrics go by the path that the caller sent; the denylist holds for both. Default: the path is sent as it is.',
    },
  ),
  credential: doc(optional(id()), {
    description:
      "Id of the only credential that is used, of those of the upstream's account: after a 401 no other is tried. Default: all of the account, in their order.",
  }),
  rewriteLinks: doc(flag().default(true), {
    description:
      'true: pagination links in JSON, and `Location`, `Content-Location` and `Link` on an upstream origin, lead back to the gateway. The upstream is then asked for uncompressed responses. The body of a download (`…/download`, or an attachment) is a file and stays as it is. false: all of them pass unchanged, so that a caller that follows them leaves the gateway.',
  }),
});

function isPath(value: string): boolean {
  const canonical = canonicalise(value);
  return canonical.ok && !/[*?]/.test(value);
}
