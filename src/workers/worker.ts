import type { Socket } from 'node:net';
import type { Settings } from '../config/model.ts';
import { unpack } from '../config/packed.ts';
import { createGateway, type Gateway } from '../gateway.ts';
import { logConsole } from '../telemetry/console.ts';
import type { Answers, FromWorker, Question, ToWorker } from './messages.ts';

/**
 * The process of a worker: a gateway without ports, which does what the primary tells it. When the primary is gone node:cluster
 * ends it at once, whatever is in flight: nobody could reload, watch or drain it any more.
 */
let gateway: Gateway | null = null;
let opening: Promise<void> = Promise.resolve();
let leave = (): void => {};

function tell(message: FromWorker, then?: () => void): void {
  process.send?.(message, undefined, undefined, () => then?.());
}

async function open({ id, of, ...message }: Extract<ToWorker, { kind: 'open' }>): Promise<void> {
  process.title = `patchgate worker ${id}`;
  gateway = createGateway({ settings: unpack(message.opened) as Settings, worker: { id, of } });
  logConsole(gateway.log);
  gateway.reload(unpack(message.now) as Settings);
  await gateway.open();
  tell({ kind: 'open' });
}

async function answer(to: Gateway, question: Question): Promise<Answers[Question['about']]> {
  switch (question.about) {
    case 'metrics':
      return to.report.metrics();
    case 'status':
      return to.report.status();
    case 'standing':
      return to.report.standing(question.tenants);
    case 'purge':
      return to.report.purge(question.purge);
    case 'reload':
      to.reload(unpack(question.settings) as Settings);
      return true;
  }
}

async function drain(signal: string): Promise<void> {
  const left = new Promise<void>((resolve) => {
    leave = resolve;
  });
  await opening;
  await gateway?.drain({ signal, withDelay: left });
  const metrics = (await gateway?.report.metrics()) ?? '[]';
  tell({ kind: 'drained', metrics }, () => process.exit(0));
}

function hear(message: ToWorker, socket: Socket | undefined): void {
  switch (message.kind) {
    case 'open':
      opening = open(message);
      break;
    case 'connection':
      tell({ kind: 'took' });
      if (socket !== undefined) gateway?.take(socket);
      break;
    case 'ask': {
      const { number, question } = message;
      if (gateway === null) break;
      answer(gateway, question).then(
        (answered) => tell({ kind: 'answer', number, answer: answered }),
        // No answer is one too: whoever asked goes on without.
        (error: unknown) => gateway?.log.error({ about: question.about, err: error }, 'the primary gets no answer'),
      );
      break;
    }
    case 'drain':
      void drain(message.signal);
      break;
    case 'leave':
      leave();
  }
}

// A terminal sends its signals to the whole group; the primary decides what follows from them, for all workers at once.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
process.on('message', (message, socket) => hear(message as ToWorker, socket as Socket | undefined));
tell({ kind: 'hello' });
