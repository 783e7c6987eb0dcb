-- None of the tenant's requests waits any more: its place in the queue is free.
redis.call('ZREM', QUEUE, request.tenant)
redis.call('ZREM', DUE, request.tenant)
return reply('ok')
