/**
 * Reads server-sent events from the pieces of a stream, because an `EventSource` cannot send a token. Only what the gateway writes:
 * `event` and `data` of one line each.
 *
 * @param {(event: string, data: string) => void} onEvent
 * @returns {(piece: string) => void}
 */
export function eventReader(onEvent) {
  let rest = '';
  return (piece) => {
    const events = (rest + piece).split('\n\n');
    rest = events.pop() ?? '';
    for (const text of events) {
      let event = 'message';
      let data = '';
      for (const line of text.split('\n')) {
        if (line.startsWith('event: ')) event = line.slice(7);
        if (line.startsWith('data: ')) data = line.slice(6);
      }
      onEvent(event, data);
    }
  };
}
