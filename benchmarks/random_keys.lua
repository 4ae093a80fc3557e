-- Ask for one of so many keys below the path, at random: wrk --script random_keys.lua http://host/path -- 3000
local requests = {}

function init(arguments)
  math.randomseed(os.time())
  for key = 1, tonumber(arguments[1]) do
    requests[key] = wrk.format("GET", wrk.path .. "/" .. key)
  end
end

function request()
  return requests[math.random(#requests)]
end
