-- For wrk: asks for addresses out of a file, in an order of chance, and says at the end how long answers took.
-- ADDRESSES: a file with a path in each line. TOKEN: the bearer token.

local paths = {}
for path in io.lines(os.getenv("ADDRESSES")) do
  paths[#paths + 1] = path
end
wrk.headers["Authorization"] = "Bearer " .. os.getenv("TOKEN")

local threads = 0
function setup(thread)
  threads = threads + 1
  thread:set("seed", threads)
end

function init()
  math.randomseed(seed)
end

function request()
  return wrk.format("GET", paths[math.random(#paths)])
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"requests": %d, "seconds": %.3f, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f, "failed": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    latency.max / 1e3, errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
