-- Load for wrk: POST {"add":1} to a path, in which {key} is one of so many keys, with or without waiting.
-- wrk … -s bench/post.lua URL -- PATH KEYS WAIT
local path, keys, wait
function init(args)
  path, keys, wait = args[1], tonumber(args[2]), args[3]
  math.randomseed(os.time())
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  if wait == "wait" then wrk.headers["Prefer"] = "wait=10" end
end
function request()
  local target = path:gsub("{key}", tostring(math.random(0, keys - 1)))
  return wrk.format(nil, target, nil, '{"add":1,"note":"' .. string.rep("x", 100) .. '"}')
end
function done(summary, latency)
  local bad = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  io.write(string.format("RESULT %.0f %.3f %.3f %d\n", summary.requests / (summary.duration / 1e6),
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, bad))
end
