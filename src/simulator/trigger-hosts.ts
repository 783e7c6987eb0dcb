import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { SimulatorState } from './application.ts';
import { createApiServer, type ServerOptions } from './server.ts';
import { TRIGGER_HOSTS, type Trigger, type TriggerHost } from './trigger-options.ts';
import { decideTrigger } from './triggers.ts';

/** The hosts of webhooks and callbacks. Their paths look like those of the Core API: each has a listener of its own. */
export interface TriggerHosts {
  readonly urls: Readonly<Record<TriggerHost['id'], string>>;
  close(): Promise<void>;
}

export async function openTriggerHosts(
  state: SimulatorState,
  triggers: readonly Trigger[],
  options: Pick<ServerOptions, 'random' | 'keepAliveTimeoutMs'> & {
    readonly host: string;
    /** 0: any free one. */
    readonly ports: Readonly<Partial<Record<TriggerHost['id'], number>>>;
  },
): Promise<TriggerHosts> {
  const servers: { readonly server: Server; readonly stop: () => void }[] = [];
  const base = `http://${options.host.includes(':') ? `[${options.host}]` : options.host}`;
  const close = async (): Promise<void> => {
    await Promise.all(
      servers.map(({ server, stop }) => {
        stop();
        server.closeAllConnections();
        return new Promise((resolve) => server.close(resolve));
      }),
    );
  };
  const open = async (host: TriggerHost): Promise<string> => {
    const decide: ServerOptions['decide'] = (request, arrival) =>
      decideTrigger(state, host, triggers, request, arrival);
    const opened = createApiServer({ ...options, state, decide, control: null });
    servers.push(opened);
    await listen(opened.server, options.ports[host.id] ?? 0, options.host);
    return `${base}:${(opened.server.address() as AddressInfo).port}`;
  };
  try {
    const { webhooks, callbacks } = TRIGGER_HOSTS;
    return { urls: { webhooks: await open(webhooks), callbacks: await open(callbacks) }, close };
  } catch (error) {
    await close();
    throw error;
  }
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, resolve);
  });
}
