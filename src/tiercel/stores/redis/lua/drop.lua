-- Let go of variants.
-- KEYS: rows, blobs. ARGV: the variants.
redis.call('HDEL', KEYS[1], unpack(ARGV))
redis.call('HDEL', KEYS[2], unpack(ARGV))
return {'ok'}
