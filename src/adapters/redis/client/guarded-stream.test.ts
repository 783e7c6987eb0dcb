import { describe, expect, test } from 'vitest';
import { ReplyGuard } from './guarded-stream.ts';

const command = (...words: string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')}`;

const SENT = [
  command('HELLO', '3'),
  command('client', 'setname', 'ä\r\n$5\r\nx'),
  command('get', 'a'),
  command('SUBSCRIBE', 'news'),
  command('cluster', 'slots'),
  command('ping'),
  command('evalsha', '0'),
  command('mget', 'a', 'b'),
].join('');
/** The replies, with a message in between: every type that the protocol has. */
const RECEIVED = [
  '%2\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nmodules\r\n*0\r\n',
  '+OK\r\n',
  '$-1\r\n',
  '>3\r\n$9\r\nsubscribe\r\n$4\r\nnews\r\n:1\r\n',
  '>3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$12\r\n+OK\r\n>1\r\n\r\n!\r\n',
  '*1\r\n*3\r\n:0\r\n:16383\r\n*2\r\n_\r\n:7000\r\n',
  '-LOADING Redis is loading the dataset in memory\r\n',
  '!21\r\nERR a script\r\nfailed!\r\n',
  '~3\r\n,1.5\r\n#t\r\n=7\r\ntxt:abc\r\n',
].join('');

function guarded(sent: string, received: string, cut: number): ReplyGuard {
  const guard = new ReplyGuard();
  const [out, back] = [Buffer.from(sent), Buffer.from(received)];
  for (const part of [out.subarray(0, cut), out.subarray(cut)]) guard.sent(part);
  for (const part of [back.subarray(0, cut), back.subarray(cut)]) guard.received(part);
  return guard;
}

describe('a conversation with Redis', () => {
  test('passes, wherever the network cuts it', () => {
    for (let cut = 0; cut <= Math.max(SENT.length, RECEIVED.length); cut++) {
      expect(guarded(SENT, RECEIVED, cut).waiting, `cut at ${cut}`).toBe(0);
    }
  });

  test('passes byte by byte', () => {
    const guard = new ReplyGuard();
    for (const byte of Buffer.from(SENT)) guard.sent(Buffer.from([byte]));
    expect(guard.waiting).toBe(8);
    for (const byte of Buffer.from(RECEIVED)) guard.received(Buffer.from([byte]));
    expect(guard.waiting).toBe(0);
  });

  test('passes with thousands of commands on their way', () => {
    const guard = new ReplyGuard();
    for (let round = 0; round < 3; round++) {
      guard.sent(Buffer.from(command('get', 'a').repeat(3_000)));
      guard.received(Buffer.from('$1\r\nx\r\n'.repeat(2_999)));
      expect(guard.waiting).toBe(1);
      guard.received(Buffer.from(':1\r\n'));
      expect(guard.waiting).toBe(0);
    }
  });
});

describe('what no server says', () => {
  const cases: [name: string, sent: string, received: string, reason: string][] = [
    ['a reply more than commands', command('ping'), '+PONG\r\n$-1\r\n', 'a reply without a command'],
    ['an error to nothing, in its own words', '', '-ERR max number of clients\r\n', 'ERR max number of clients'],
    ['a plain reply to a subscription', command('subscribe', 'news'), '$-1\r\n', 'a reply to subscribe that is none'],
    ['a null in place of the slots', command('cluster', 'slots'), '_\r\n', 'a reply to cluster that is none'],
    ['the other null', command('cluster', 'slots'), '*-1\r\n', 'a reply to cluster that is none'],
    ['a text in place of a pong', command('ping'), '$2\r\nok\r\n', 'a reply to ping that is none'],
    [
      'another subscription',
      command('ping'),
      '>3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n',
      'subscribe without a command',
    ],
    ['a redirection to nowhere', command('get', 'a'), '-MOVED 5\r\n', 'a redirection to nowhere'],
    ['a push of nothing', '', '>1\r\n:5\r\n', 'a push without a kind'],
    ['a message of no channel', '', '>3\r\n+message\r\n_\r\n+x\r\n', 'a message without a channel'],
    ['another protocol', command('ping'), 'HTTP/1.1 400\r\n', 'bytes that are not of the protocol'],
    ['a length that is none', command('ping'), '$1x\r\n', '"$" without a length'],
    ['a length below nothing', command('ping'), '*-2\r\n', '"*" without a length'],
    ['a line without an end', command('ping'), `+${'x'.repeat(70_000)}`, 'a line that does not end'],
  ];
  test.each(cases)('%s is refused', (_, sent, received, reason) => {
    expect(() => guarded(sent, received, received.length)).toThrow(reason);
  });

  test.each([
    ['a redirection that leads somewhere', command('get', 'a'), '-MOVED 5 127.0.0.1:7000\r\n'],
    ['one to an address of IPv6', command('get', 'a'), '-ASK 5 ::1:7000\r\n'],
    ['an error to a subscription', command('subscribe', 'news'), '-NOPERM no channel\r\n'],
    ['the pong of a subscriber with RESP2', command('ping'), '*2\r\n$4\r\npong\r\n$0\r\n\r\n'],
    ['an error to a ping', command('ping'), '-NOAUTH Authentication required.\r\n'],
    ['a push of a kind that is not known', '', '>2\r\n+invalidate\r\n_\r\n'],
  ])('%s is passed', (_, sent, received) => {
    expect(guarded(sent, received, received.length).waiting).toBe(0);
  });
});
