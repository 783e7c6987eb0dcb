// The processes themselves.
import { timeseries } from '../panels.mjs';
import { processMetric, processRate, sum } from '../queries.mjs';

const perReplica = '{{instance}}';

export const processes = [
  timeseries({
    title: 'Event loop lag, p99',
    description:
      'Delay of timers; every request waits as long. Above 100 ms: the CPU is short, or garbage collection is long, see beside.',
    unit: 's',
    width: 8,
    height: 8,
    queries: [[processMetric('nodejs_eventloop_lag_p99_seconds'), perReplica]],
    steps: [
      [null, 'green'],
      [0.1, 'red'],
    ],
  }),
  timeseries({
    title: 'CPU',
    description:
      'Part of one core; a replica uses little more than one. Above 80 %: add replicas. A CPU limit below 1 throttles the process, and the event loop lags.',
    unit: 'percentunit',
    width: 8,
    height: 8,
    queries: [[processRate('process_cpu_seconds_total'), perReplica]],
  }),
  timeseries({
    title: 'Garbage collection',
    description:
      'Share of time. Above 5 %: the heap is near its limit; raise --max-old-space-size with the memory of the container, or lower cache.memory.',
    unit: 'percentunit',
    width: 8,
    height: 8,
    queries: [[sum(processRate('nodejs_gc_duration_seconds_sum'), 'instance'), perReplica]],
  }),
  timeseries({
    title: 'Resident memory',
    description:
      'The memory that the container limit counts. If it grows for days under even load, it is a leak: keep a heap snapshot before the restart.',
    unit: 'bytes',
    width: 8,
    height: 8,
    queries: [[processMetric('process_resident_memory_bytes'), perReplica]],
  }),
  timeseries({
    title: 'Heap used',
    description:
      'The JavaScript heap; a part of the cache is outside of it. The saw-tooth is normal, and its lower edge should be level.',
    unit: 'bytes',
    width: 8,
    height: 8,
    queries: [[processMetric('nodejs_heap_size_used_bytes'), perReplica]],
  }),
  timeseries({
    title: 'Open files, part of the limit',
    description:
      'Connections of callers, of Patchworks and of Redis. Above 80 %: raise the limit of open files, or find the client that leaves connections open.',
    unit: 'percentunit',
    max: 1,
    width: 8,
    height: 8,
    queries: [[`(${processMetric('process_open_fds')}) / process_max_fds`, perReplica]],
  }),
];
