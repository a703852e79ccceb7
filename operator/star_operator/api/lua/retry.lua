-- A pipeline begins anew from the first of its stages that failed.
for _, row in ipairs((obj.status or {}).stages or {}) do
  if row.phase == "Failed" then
    obj.metadata.annotations = obj.metadata.annotations or {}
    obj.metadata.annotations["star.recsys.dev/retry"] = row.stage
    return obj
  end
end
return obj
