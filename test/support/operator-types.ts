import type { ObjectMeta } from 'kubernetes-types/meta/v1.d.ts';

/**
 * The fields that the chart uses of three kinds outside Kubernetes: of the Prometheus operator (monitoring.coreos.com/v1) and
 * the Gateway API (gateway.networking.k8s.io/v1).
 */
export interface ServiceMonitor {
  readonly apiVersion: 'monitoring.coreos.com/v1';
  readonly kind: 'ServiceMonitor';
  readonly metadata: ObjectMeta;
  readonly spec: {
    readonly selector: { readonly matchLabels?: Readonly<Record<string, string>> };
    readonly endpoints: readonly {
      readonly port?: string;
      readonly path?: string;
      readonly interval?: string;
      readonly scrapeTimeout?: string;
      readonly scheme?: 'http' | 'https';
      readonly tlsConfig?: {
        readonly ca?: {
          readonly secret?: { readonly name?: string; readonly key: string; readonly optional?: boolean };
        };
        readonly serverName?: string;
        readonly insecureSkipVerify?: boolean;
      };
      readonly authorization?: {
        readonly type?: string;
        readonly credentials?: { readonly key: string; readonly name?: string; readonly optional?: boolean };
      };
      readonly relabelings?: readonly { readonly targetLabel?: string; readonly replacement?: string }[];
    }[];
  };
}

export interface PrometheusRule {
  readonly apiVersion: 'monitoring.coreos.com/v1';
  readonly kind: 'PrometheusRule';
  readonly metadata: ObjectMeta;
  readonly spec: {
    readonly groups: readonly {
      readonly name: string;
      readonly interval?: string;
      readonly limit?: number;
      readonly labels?: Readonly<Record<string, string>>;
      readonly rules?: readonly {
        readonly alert?: string;
        readonly record?: string;
        readonly expr: string | number;
        readonly for?: string;
        readonly keep_firing_for?: string;
        readonly labels?: Readonly<Record<string, string>>;
        readonly annotations?: Readonly<Record<string, string>>;
      }[];
    }[];
  };
}

export interface HTTPRoute {
  readonly apiVersion: 'gateway.networking.k8s.io/v1';
  readonly kind: 'HTTPRoute';
  readonly metadata: ObjectMeta;
  readonly spec: {
    readonly parentRefs?: readonly {
      readonly name: string;
      readonly namespace?: string;
      readonly sectionName?: string;
      readonly port?: number;
    }[];
    readonly hostnames?: readonly string[];
    readonly rules?: readonly {
      readonly matches?: readonly {
        readonly path?: { readonly type?: 'Exact' | 'PathPrefix' | 'RegularExpression'; readonly value?: string };
      }[];
      readonly backendRefs?: readonly { readonly name: string; readonly port?: number; readonly namespace?: string }[];
      readonly timeouts?: { readonly request?: string; readonly backendRequest?: string };
    }[];
  };
}
