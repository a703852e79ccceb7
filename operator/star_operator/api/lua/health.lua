-- What Argo CD shows of a resource: by its phase, and by whether the operator has seen what its spec says now.
local status = obj.status or {}
local ready, stalled = {}, false
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Ready" then
    ready = condition
  end
  if condition.type == "Stalled" and condition.status == "True" then
    stalled = true
  end
end
if status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "the operator has not seen this version of the spec yet"}
end
local told = {
  Succeeded = "Healthy",
  Ready = "Healthy",
  Suspended = "Suspended",
  Failed = "Degraded",
  Gated = "Degraded",
  Degraded = "Degraded",
}
local people = {AwaitingApproval = true, Held = true, Frozen = true, WindowClosed = true, PullRequestOpen = true}
local health = told[status.phase] or "Progressing"
if status.phase == "Degraded" and not stalled then
  health = "Progressing" -- servers start, as Argo CD says of a Deployment
end
if health == "Progressing" and stalled then
  health = "Degraded"
elseif health == "Progressing" and people[ready.reason] then
  health = "Suspended"
end
return {status = health, message = ready.message or ""}
