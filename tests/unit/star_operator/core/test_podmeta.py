"""Which annotations of pods are the platform's alone."""

import re

import pytest

from star_operator.core.podmeta import NODE_KEYS_PATTERN, PodDefaults


@pytest.mark.bad_input
@pytest.mark.parametrize(
    "key",
    [
        "cdi.k8s.io/gpus",
        "devices.nri.io/container.main",
        "network-device-injector.nri.io/pod",
        "ulimits.nri.containerd.io/container.main",
        "io.kubernetes.cri-o.Devices",
        "io.kubernetes.cri-o.userns-mode",
        "seccomp-profile.kubernetes.cri-o.io/main",
        "cpu-load-balancing.crio.io",
        "run.oci.handler",
        "io.katacontainers.config.hypervisor.path",
        "dev.gvisor.internal.nvproxy",
        "container.apparmor.security.beta.kubernetes.io/main",
        "container.seccomp.security.alpha.kubernetes.io/main",
        "seccomp.security.alpha.kubernetes.io/pod",
        "k8s.v1.cni.cncf.io/networks",
        "v1.multus-cni.io/default-network",
        "cni.projectcalico.org/ipAddrs",
    ],
)
def test_what_nodes_take_orders_by_is_the_platforms(key: str) -> None:
    assert re.search(NODE_KEYS_PATTERN, key)
    assert PodDefaults(annotations={key: "x"}).annotations, "which may set it"


@pytest.mark.parametrize(
    "key",
    [
        "sidecar.istio.io/inject",
        "linkerd.io/inject",
        "prometheus.io/scrape",
        "cluster-autoscaler.kubernetes.io/safe-to-evict",
        "karpenter.sh/do-not-disrupt",
        "vault.hashicorp.com/agent-inject",
        "example.com/cost-centre",
        "team",
        "my-cri-o.io.example.com/x-nri",
    ],
)
def test_others_are_free(key: str) -> None:
    assert not re.search(NODE_KEYS_PATTERN, key)
