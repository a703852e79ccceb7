"""The operator's Prometheus metrics, by the field's naming conventions (controller-runtime's where there is one)."""

from prometheus_client import Counter, Gauge, Histogram

RECONCILES = Counter("star_reconcile_total", "Passes over a resource, by kind and result.", ["kind", "result"])
RECONCILE_SECONDS = Histogram(
    "star_reconcile_duration_seconds",
    "Duration of a pass.",
    ["kind"],
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30),
)
QUEUE_DEPTH = Gauge("star_workqueue_depth", "Keys waiting to be reconciled.")
RESOURCES = Gauge("star_resources", "Resources by kind and phase, counted at each resync.", ["kind", "phase"])
PROGRESS_REPORTS = Counter("star_progress_reports_total", "Progress reports of job pods, by result.", ["result"])
ONLINE_REPORTS = Counter("star_online_reports_total", "Online figures of gateways, by result.", ["result"])
API_CALLS = Counter(
    "star_api_requests_total", "Calls of the API server but for watches, by verb and resource.", ["verb", "resource"]
)
WATCH_STALE = Gauge("star_watch_stale", "1 when the watch of a kind no longer delivers.", ["kind"])
GROUP_RESTARTS = Counter("star_llm_group_restarts_total", "Multi-node vLLM groups restarted as they lost a pod.")
LEADER = Gauge("star_leader", "1 while this replica leads.")
