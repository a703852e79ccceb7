{{- define "star-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "star-operator.fullname" -}}
{{- $name := include "star-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "star-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "star-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "star-operator.labels" -}}
{{ include "star-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/part-of: star
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "star-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "star-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* A reference with the registry of all images in front: (list $ reference). */}}
{{- define "star-operator.image" -}}
{{- $root := index . 0 }}
{{- $reference := index . 1 }}
{{- with $root.Values.imageRegistry }}{{ . }}/{{ end }}{{ $reference }}
{{- end }}

{{/* The operator's settings file: star_operator.core.settings.Settings reads it, and refuses what it does not know. */}}
{{- define "star-operator.settings" -}}
{{- $service := printf "%s.%s.svc" (include "star-operator.fullname" .) .Release.Namespace }}
{{- $images := dict }}
{{- range $variant, $set := .Values.images }}
{{- $references := dict }}
{{- range $role, $reference := $set }}
{{- $_ := set $references $role (include "star-operator.image" (list $ $reference)) }}
{{- end }}
{{- $_ := set $images $variant $references }}
{{- end }}
{{- /* A value that is set to null is gone: of the Secret's name that means that there is none. */}}
{{- $settings := dict
      "store" (merge (dict "secretName" (default "" .Values.store.secretName)
                           "gatewaySecretName" (default "" .Values.store.gatewaySecretName)) .Values.store)
      "pools" .Values.pools
      "images" $images
      "caBundle" (default "" .Values.caBundle)
      "proxy" (default dict .Values.proxy)
      "imagePullPolicy" .Values.imagePullPolicy
      "imagePullSecrets" .Values.imagePullSecrets
      "pods" (default dict .Values.pods)
      "podSecurity" (include "star-operator.podSecurity" . | fromYaml)
      "clusterDomain" .Values.settings.clusterDomain
      "llmIdleSeconds" .Values.settings.llmIdleSeconds
      "serverUpdates" (ternary .Values.settings.serverUpdates 1 (hasKey .Values.settings "serverUpdates"))
      "allowedEngineArgs" (default list .Values.settings.allowedEngineArgs)
      "allowedEndpointHosts" (default list .Values.settings.allowedEndpointHosts)
      "allowedGitHosts" (default list .Values.settings.allowedGitHosts)
      "retention" (default dict .Values.retention)
      "proofs" (default dict .Values.proofs)
      "network" (default dict .Values.networkPolicy.pods)
      "watchNamespaces" (default list .Values.watchNamespaces)
      "workers" .Values.settings.workers
      "resyncSeconds" .Values.settings.resyncSeconds
      "progressUrl" (default (printf "http://%s:8081/v1/progress" $service) .Values.settings.progressUrl)
}}
{{- toYaml $settings }}
{{- end }}

{{/*
User and groups: null is said, as Helm takes a value that is null for one that is not there. Without any of it, as after
`helm upgrade --reuse-values` from a chart of before, they are the image's.
*/}}
{{- define "star-operator.podSecurity" -}}
{{- $ids := dict "runAsUser" 65532 "runAsGroup" 65532 "fsGroup" 65532 }}
{{- if hasKey .Values "podSecurity" }}{{ $ids = .Values.podSecurity | default dict }}{{ end }}
{{- range $key := list "runAsUser" "runAsGroup" "fsGroup" }}
{{ $key }}: {{ get $ids $key | default "null" }}
{{- end }}
{{- end }}

{{/* A pod's security context, as far as it is the same everywhere. */}}
{{- define "star-operator.podSecurityContext" -}}
runAsNonRoot: true
{{- range $key, $id := include "star-operator.podSecurity" . | fromYaml }}
{{- with $id }}
{{ $key }}: {{ . | int64 }}
{{- end }}
{{- end }}
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* The plurals of STAR's kinds, as a YAML list: from the names of the CRDs' files, so that no kind is forgotten. */}}
{{- define "star-operator.kinds" -}}
{{- $kinds := list }}
{{- range $path, $_ := .Files.Glob "resources/crds/*.yaml" }}
{{- $kinds = append $kinds (base $path | splitList "." | first) }}
{{- end }}
{{- $kinds | sortAlpha | join ", " }}
{{- end }}

{{/* What the operator does in the namespaces that it looks after: all of them, or those of watchNamespaces. */}}
{{- define "star-operator.rules" -}}
{{- $kinds := without (include "star-operator.kinds" . | splitList ", ") "retrainschedules" | join ", " }}
{{- $made := without ($kinds | splitList ", ") "promotionpolicies" | join ", " }}
# STAR's own kinds. It makes Evaluations (gates), Checkpoints (results), a pipeline's stages and a schedule's runs, and
# deletes stages that are cancelled or made once more, and runs that are old.
- apiGroups: [star.recsys.dev]
  resources: [{{ $kinds }}]
  verbs: [get, list, watch]
- apiGroups: [star.recsys.dev]
  resources: [{{ $made }}]
  verbs: [create, patch, delete]
- apiGroups: [star.recsys.dev]
  resources: [{{ $kinds | replace "," "/status," }}/status]
  verbs: [patch]
# Children block their owner's deletion until they are gone (OwnerReferencesPermissionEnforcement).
- apiGroups: [star.recsys.dev]
  resources: [{{ $made | replace "," "/finalizers," }}/finalizers]
  verbs: [update]
# Children, written by server-side apply.
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [deployments]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [apps]
  resources: [statefulsets]
  verbs: [list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [services]
  verbs: [get, list, watch, create, patch, delete]
- apiGroups: [""]
  resources: [configmaps]
  verbs: [get, list, create, patch, delete]
# These go with their owners.
- apiGroups: [policy]
  resources: [poddisruptionbudgets]
  verbs: [create, patch]
- apiGroups: [networking.k8s.io]
  resources: [networkpolicies]
  verbs: [create, patch]
# Pods are made by Jobs and Deployments; here they are read, removed when their attempt or group starts anew, and a
# gateway's pod is annotated, so that its kubelet looks at a changed configuration at once. No logs, no exec.
- apiGroups: [""]
  resources: [pods]
  verbs: [list, watch, patch, delete]
- apiGroups: [""]
  resources: [events]
  verbs: [get, list, create, patch]
{{- /* Without a name there must be no rule: an empty list of names means every Secret. */}}
{{- with compact (list .Values.store.secretName .Values.store.gatewaySecretName) | uniq }}
# Only whether the store's credentials are there; no other Secret can be read.
- apiGroups: [""]
  resources: [secrets]
  resourceNames: {{ toJson . }}
  verbs: [get]
{{- end }}
# Keys by which the pods of one run know each other: made, and never read again.
- apiGroups: [""]
  resources: [secrets]
  verbs: [create]
# Why a queued run waits, where Kueue is installed.
- apiGroups: [kueue.x-k8s.io]
  resources: [workloads]
  verbs: [list]
{{- end }}
