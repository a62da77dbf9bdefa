"""Workers as pods of a StatefulSet: stable names, a volume each, drained before they go."""

from gpu_runner.errors import PoolError
from gpu_runner.provisioning.engine import Provision, WorkerPlan, Written, worker_command

_DRAIN_S = 900
_HOME = "/runner"
_MANIFEST = """apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: {pool}
spec:
  serviceName: {pool}
  replicas: {count}
  podManagementPolicy: Parallel
  selector:
    matchLabels: {{app: {pool}}}
  template:
    metadata:
      labels: {{app: {pool}}}
    spec:
      # Long enough for the job in hand; the broker gives it to another worker otherwise.
      terminationGracePeriodSeconds: {drain_s}
      automountServiceAccountToken: false
      # A user namespace, and a /proc that may be mounted again: without them bubblewrap does not
      # work, and a worker with keys refuses to start.
      hostUsers: false
      containers:
        - name: worker
          image: {image}
          command: ["/bin/sh", "-c"]
          args:
            - |
              set -eu
              name=$(hostname)
{keys}              exec kernelpilot-runner {worker}
          lifecycle:
            preStop:
              exec:
                command: ["/bin/sh", "-c", "kill -USR1 1; while kill -0 1; do sleep 1; done"]
          securityContext:
            procMount: Unmasked
            seccompProfile: {{type: Unconfined}}
{gpus}          volumeMounts:
            - {{name: home, mountPath: {home}}}
  volumeClaimTemplates:
    - metadata:
        name: home
      spec:
        accessModes: [ReadWriteOnce]
        resources:
          requests: {{storage: 20Gi}}
"""
_KEYS = """              # Made in the pod's own volume; enrol the key that its log shows.
              kernelpilot-runner keys new --keys {home}/keys --broker {broker}
"""
_GPUS = """          resources:
            limits: {{nvidia.com/gpu: {gpus}}}
"""


class KubernetesEngine:
    """Renders manifests; nothing is run from here."""

    def __init__(self, plan: WorkerPlan, *, image: str) -> None:
        """Check the plan.

        Raises:
            PoolError: keys without the broker's, or no image.
        """
        if plan.keys and not plan.broker_key:
            raise PoolError("pods make their keys where they run; give --broker-key KEY for them")
        if not image:
            raise PoolError("pods need an image with kernelpilot installed; give --image NAME")
        self._plan = plan
        self._image = image

    def start(self, count: int) -> Provision:
        """Return the manifest of so many pods, and how to apply it."""
        plan = self._plan.model_copy(update={"keys": ""})
        words = worker_command(plan, "$name", workspace=f"{_HOME}/work")
        keys = ""
        if self._plan.keys:
            words += ["--keys", f"{_HOME}/keys"]
            keys = _KEYS.format(home=_HOME, broker=plan.broker_key)
        manifest = _MANIFEST.format(
            pool=plan.pool,
            count=count,
            drain_s=_DRAIN_S,
            image=self._image,
            keys=keys,
            worker=" ".join(words),
            gpus=_GPUS.format(gpus=plan.gpus) if plan.gpus else "",
            home=_HOME,
        )
        file = Written(name=f"{plan.pool}.yaml", content=manifest)
        return Provision(files=(file,), commands=(f"kubectl apply -f {file.name}",))

    def list(self) -> Provision:
        """Return the command that lists the pods."""
        return Provision(commands=(f"kubectl get pods -l app={self._plan.pool} -o wide",))

    def drain(self, name: str) -> Provision:
        """Return the command that drains one pod; its set starts it again."""
        return Provision(commands=(f"kubectl exec {self._pod(name)} -- kill -USR1 1",))

    def stop(self, name: str) -> Provision:
        """Return the command that removes one pod; its set starts it again."""
        return Provision(commands=(f"kubectl delete pod {self._pod(name)}",))

    def _pod(self, name: str) -> str:
        prefix, _, number = name.rpartition("-")
        if prefix != self._plan.pool or not number.isdigit():
            first = self._plan.name_of(0)
            raise PoolError(f"{name!r} is no worker of {self._plan.pool!r}: they are {first}, ...")
        return name
