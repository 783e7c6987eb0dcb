import type { Frame } from '../../src/admin/status/document.ts';

export interface EventStream {
  readonly status: number;
  /** The next message; fails after ten seconds, or when the stream ends. */
  next(): Promise<Frame>;
  /** Resolves when the stream has ended, with its last event. */
  ended(): Promise<string>;
  stop(): void;
}

/** GET /events, as the page reads it. */
export async function openEventStream(adminUrl: string, token?: string): Promise<EventStream> {
  const abort = new AbortController();
  const headers = token === undefined ? {} : { Authorization: `Bearer ${token}` };
  const response = await fetch(`${adminUrl}/events`, { headers, signal: abort.signal });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  let text = '';
  const more = async (): Promise<boolean> => {
    const timer = setTimeout(() => abort.abort(new Error('nothing for ten seconds')), 10_000);
    try {
      const piece = await reader?.read();
      text += piece?.value ?? '';
      return piece?.done === false;
    } finally {
      clearTimeout(timer);
    }
  };
  return {
    status: response.status,
    async next() {
      for (;;) {
        const end = text.indexOf('\n\n');
        const event = text.slice(0, Math.max(0, end));
        if (end !== -1) text = text.slice(end + 2);
        if (event.startsWith('data: ')) return JSON.parse(event.slice(6));
        if (end === -1 && !(await more())) throw new Error('the stream has ended');
      }
    },
    async ended() {
      while (await more()) {}
      return /event: (\w+)\ndata:\n\n$/.exec(text)?.[1] ?? '';
    },
    stop: () => abort.abort(),
  };
}
