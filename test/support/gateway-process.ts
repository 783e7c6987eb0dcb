import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Simulator } from '../../src/simulator/control.ts';
import type { SimulatorOptions } from '../../src/simulator/options.ts';
import { createSimulator } from '../../src/simulator/simulator.ts';
import { BILLING_KEY, type Config, configuration } from './gateway.ts';
import { writeConfigMap } from './kubelet.ts';
import { folder, patchgate, type Spawned } from './process.ts';

export interface GatewayProcess {
  readonly simulator: Simulator;
  readonly process: Spawned;
  /** Folder of the configuration. */
  readonly path: string;
  readonly url: string;
  readonly adminUrl: string;
  readonly port: number;
  /** Status of a GET with a key, after its body. */
  status(key: string): Promise<number>;
  /** Writes gateway.yaml in place, or anew as a ConfigMap. */
  write(text: string): Promise<void>;
  /** Number of loads so far, the first included. */
  reloads(): Promise<{ readonly ok: number; readonly refused: number }>;
  [Symbol.asyncDispose](): Promise<void>;
}

/** The built program with a configuration in a folder of its own, in front of a simulator in this process. */
export async function startGateway(
  more: Config = {},
  options: {
    readonly env?: Record<string, string>;
    /** Besides gateway.yaml. */
    readonly files?: Record<string, string>;
    /** gateway.yaml is in a volume as Kubernetes mounts it. */
    readonly configMap?: boolean;
    readonly simulator?: SimulatorOptions;
  } = {},
): Promise<GatewayProcess> {
  const simulator = await createSimulator(options.simulator);
  const text = JSON.stringify(configuration(simulator.url, more));
  const files = await folder({ ...options.files });
  const write = (changed: string) =>
    options.configMap
      ? writeConfigMap(files.path, { 'gateway.yaml': changed })
      : writeFile(join(files.path, 'gateway.yaml'), changed);
  await write(text);
  const process = patchgate(['serve', '--config', 'gateway.yaml'], { cwd: files.path, env: options.env ?? {} });
  const { traffic: port, admin } = await process.listening();
  const url = `http://127.0.0.1:${port}`;
  const adminUrl = `http://127.0.0.1:${admin}`;
  const status = async (key: string): Promise<number> => {
    const response = await fetch(`${url}/api/v1/flow-runs`, { headers: { Authorization: key } });
    await response.arrayBuffer();
    return response.status;
  };
  // The first response fills the bucket of embedded state.
  await status(BILLING_KEY);
  return {
    ...{ simulator, process, path: files.path, url, adminUrl, port, status },
    write,
    async reloads() {
      const exposition = await (await fetch(`${adminUrl}/metrics`)).text();
      const count = (outcome: string) =>
        Number(new RegExp(`^patchgate_config_reloads_total{outcome="${outcome}"} (\\d+)$`, 'm').exec(exposition)?.[1]);
      return { ok: count('ok'), refused: count('refused') };
    },
    async [Symbol.asyncDispose]() {
      await process[Symbol.asyncDispose]();
      await files[Symbol.asyncDispose]();
      await simulator.close();
    },
  };
}

interface Failed extends Error {
  readonly syscall?: unknown;
  /** The connection has carried a response before. */
  readonly reused?: boolean;
}

/** Nothing was sent. */
const neverConnected = (error: Failed): boolean => error.syscall === 'connect';

/**
 * Whether a failed request was lost while a gateway drained. Between the last accept of a process and the end of its
 * listener, some 100 µs, the kernel may accept a connection and then cut it: a new connection may break, and the next one
 * is refused. A connection that has carried a response must not break.
 *
 * @param again sends another request, on another connection
 */
export async function wasLost(error: Failed, again: () => Promise<unknown>): Promise<boolean> {
  if (neverConnected(error)) return false;
  if (error.reused === true) return true;
  return again().then(
    () => true,
    (next: Failed) => !neverConnected(next),
  );
}
