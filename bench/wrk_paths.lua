-- Script of wrk: requests the paths in a file in turn. The first argument is the file, with one path in each line.
local requests = {}
local number = 0

function init(args)
   for path in io.lines(args[1]) do
      requests[#requests + 1] = wrk.format("GET", path)
   end
end

function request()
   number = number % #requests + 1
   return requests[number]
end
