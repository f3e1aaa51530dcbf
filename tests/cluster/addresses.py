"""Addresses of the test cluster. They exist in its own network namespace only, so they meet nobody else's."""

NODE_NAME = "node"
NODE_IP = "172.30.0.1"
API_PORT = 6443
KUBELET_PORT = 10250
SERVICE_NETWORK = "10.96.0.0/16"
KUBERNETES_SERVICE_IP = "10.96.0.1"
POD_NETWORK = "10.244.0.0/16"
EXTERNAL_NETWORK = "172.30.1.0/24"
"""All local to the node. A process there binds one of the lower half; LoadBalancer Services get the upper half."""
FIRST_LOAD_BALANCER = 128
POD_GATEWAY_IP = "169.254.1.1"
"""The node's end of every pod's link."""
