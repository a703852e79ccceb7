"""A Kubernetes cluster for people with none: `starctl local up`.

cluster       what `up`, `status` and `down` do, in order
controlplane  etcd, kube-apiserver, controller-manager and scheduler as host processes (usable alone, in tests)
node          containerd, kubelet, kube-proxy and the pod network on this machine
services      DNS, image registry and S3 server, and how pods reach them
kind          the same with Docker: kind makes the cluster
binaries      where each program comes from: found, downloaded, taken from a package or built
processes     processes that outlive the command, found again by pid and start time
"""
