-- Approves the digest that the promotion has pinned, as the user that Argo CD is for the API server: whoever may run
-- this action in Argo CD speaks as that one user, and all of them together are one approval.
local approvals = obj.spec.approvals or {}
local mine = nil
for _, approval in ipairs(approvals) do
  if approval.user == approver then
    mine = approval
  end
end
if mine == nil then
  mine = {user = approver}
  table.insert(approvals, mine)
end
mine.digest = obj.status.digest
obj.spec.approvals = approvals
return obj
