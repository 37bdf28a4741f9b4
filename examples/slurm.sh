#!/bin/bash
# Trains on all GPUs of several nodes; goes on after the time limit, a crash or the loss of a node.
#
#     sbatch --nodes=2 examples/slurm.sh --out runs/mine --preset simsiam-imagenet --data-dir DIR --save-every 1
#
# Arguments are those of python -m emsiam.train; --out must be given, on a disk that all nodes see.
#SBATCH --job-name=emsiam
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --output=emsiam-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@900
# One task per node: torchrun, which starts a process for each GPU. USR1 comes to this script alone, 900 s before
# the time limit: time for ten steps, the evaluation that is under way, and the checkpoint.
set -uo pipefail

case " $* " in *" --out"[\ =]*) ;; *) echo "slurm.sh: give --out DIR" >&2; exit 2 ;; esac
[ -f .venv/bin/activate ] && source .venv/bin/activate
gpus=${SLURM_GPUS_ON_NODE:-1}
export SRUN_CPUS_PER_TASK=${SLURM_CPUS_PER_TASK:-$gpus}
export OMP_NUM_THREADS=$((SRUN_CPUS_PER_TASK < gpus ? 1 : SRUN_CPUS_PER_TASK / gpus))
# else processes that are started again meet at addresses of before (pytorch/pytorch issue 135712)
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))
agent=${TMPDIR:-/tmp}/emsiam-$SLURM_JOB_ID.pid  # of torchrun on the first node, where this script runs too
rm -f "$agent"
trap 'rm -f "$agent"' EXIT

# One process that is signalled stops all of them, and none leaves before the first has saved. torchrun itself is not
# signalled until then: it would give them 30 s. Afterwards this job waits in the queue again.
stop() {
    local torchrun workers
    echo "slurm.sh: saving before the time limit" >&2
    if torchrun=$(cat "$agent") && workers=$(pgrep -P "$torchrun"); then
        kill -TERM $workers
        while kill -0 $workers 2>/dev/null; do sleep 1; done
        kill -TERM "$torchrun"  # or it would start them again
    fi
    scontrol requeue "$SLURM_JOB_ID"
}
trap stop USR1

srun bash -c '[ "${SLURM_NODEID:-0}" = 0 ] && echo $$ > "$0"; exec "$@"' "$agent" \
    torchrun --nnodes="$SLURM_JOB_NUM_NODES" --nproc-per-node="$gpus" --max-restarts=3 \
    --rdzv-backend=c10d --rdzv-endpoint="$first:$port" --rdzv-id="$SLURM_JOB_ID-${SLURM_RESTART_COUNT:-0}" \
    -m emsiam.train -- --resume "$@" &
wait $!
status=$?
while kill -0 $! 2>/dev/null; do  # it was the signal that ended the waiting
    wait $!
    status=$?
done
exit "$status"
