obj.metadata.annotations = obj.metadata.annotations or {}
obj.metadata.annotations["star.recsys.dev/run-now"] = "*"
return obj
