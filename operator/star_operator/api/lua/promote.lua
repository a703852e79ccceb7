-- A Promotion of a Checkpoint of this namespace into the environment that this PromotionPolicy is.
local name = actionParams["checkpoint"]
if name == nil or name == "" then
  error("name the Checkpoint: argocd app actions run ... promote --param checkpoint=<name>")
end
local spec = {checkpoint = {name = name}, environment = obj.metadata.name}
for _, field in ipairs({"target", "mode", "git", "pollSeconds", "retries", "limits", "pool", "podTemplate"}) do
  spec[field] = obj.spec[field]
end
local promotion = {
  apiVersion = obj.apiVersion,
  kind = "Promotion",
  metadata = {name = obj.metadata.name .. "-" .. name, namespace = obj.metadata.namespace},
  spec = spec,
}
return {{operation = "create", resource = promotion}}
