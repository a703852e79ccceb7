-- Which actions Argo CD offers: those of this kind that would change something now.
local status, spec = obj.status or {}, obj.spec
local ended = status.phase == "Succeeded" or status.phase == "Failed"
local possible = {
  suspend = not ended and spec.suspend ~= true,
  resume = not ended and spec.suspend == true,
  cancel = not ended and spec.cancel ~= true,
  retry = status.phase == "Failed" and spec.cancel ~= true,
  approve = not ended and status.digest ~= nil and status.digest ~= "",
  promote = true,
}
possible["run-now"] = spec.suspend ~= true
local actions = {}
for _, name in ipairs(offered) do
  actions[name] = {disabled = not possible[name]}
end
if actions.promote ~= nil then
  actions.promote.params = {{name = "checkpoint"}}
end
return actions
