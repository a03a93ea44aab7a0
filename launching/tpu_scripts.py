"""The scripts of a TPU slice: those of its workers, and the one that watches over them.

Workers are machines that are reached by ssh and keep nothing. What is started on them
outlives the connection; when a machine is taken away, its system ends all processes
with SIGTERM, about 30 seconds before.
"""

from __future__ import annotations

from launching import shell
from launching.job import Job


def remote(job: Job) -> str:
    """The folder of a job on a worker, in the user's home."""
    return f'spherecast/{job.name}'


def install(job: Job) -> str:
    """The script that makes a worker ready."""
    if job.image:
        host = job.image.partition('/')[0]
        return shell.filled(_PULL, host=shell.quoted(host), image=_image(job))
    return _INSTALL


def run(job: Job) -> str:
    """The script that trains on a worker, and writes down how it ended."""
    if not job.image:
        words = ['train.py', *job.arguments('config.json')]
        return shell.filled(
            _RUN, train=f'environment/bin/python {shell.command(words)}', end=_KILL
        )
    # Docker passes SIGTERM on to the process, whose name it gives.
    docker = f'sudo docker run --rm --name={shell.quoted(job.name)} --privileged'
    mount = '--network=host --volume="$PWD":/job --workdir=/job'
    words = ['python', '/app/scripts/train.py', *job.arguments('/job/config.json')]
    stop = f'sudo docker kill --signal=TERM {shell.quoted(job.name)}'
    return shell.filled(
        _RUN,
        train=f'{docker} {mount} \\\n    {_image(job)} \\\n    {shell.command(words)}',
        end=stop,
    )


def _image(job: Job) -> str:
    return shell.quoted(job.image)


# Python from PyPI's uv: these machines come with 3.10, which is too old.
_INSTALL = r"""#!/bin/bash
# Makes this worker ready: the code and JAX for TPUs in an environment of their own.
set -eu
cd "$(dirname "$0")"
wheels=(*.whl)
if cmp --silent "${wheels[0]}" environment/wheel; then
  exit 0
fi
python3 -m pip install --quiet --user uv
rm -rf environment
python3 -m uv venv --quiet --python=3.12 environment
python3 -m uv pip install --quiet --python=environment/bin/python "${wheels[0]}[tpu]"
# A library of cf-units, which its wheels do not bring.
ldconfig -p | grep -q libudunits2 || sudo apt-get install -qq -y libudunits2-0
cp "${wheels[0]}" environment/wheel
"""

_PULL = r"""#!/bin/bash
# Makes this worker ready: the image that holds the code.
set -eu
gcloud auth configure-docker --quiet @HOST@
sudo --preserve-env=HOME docker pull --quiet @IMAGE@
"""

_KILL = 'kill -TERM "$training"'

_RUN = r"""#!/bin/bash
# Trains, passes a signal on, and writes down how it ended.
cd "$(dirname "$0")" || exit 1
export PYTHONUNBUFFERED=1
rm -f status
signalled=
end() {
  signalled=1
  @END@
}
trap end TERM INT HUP
@TRAIN@ &
training=$!
echo $$ >pid
wait "$training"
status=$?
# A signal ends `wait`, not the training, which is saving.
if [ -n "$signalled" ]; then
  wait "$training"
  status=$?
fi
echo "$status" >status.new
mv status.new status
"""

START = r"""#!/bin/bash
# Starts training in the background, unless it runs: it outlives this connection.
cd "$(dirname "$0")" || exit 1
if [ -e pid ] && [ ! -e status ] && kill -0 "$(cat pid)" 2>/dev/null; then
  echo 'it runs already'
  exit 0
fi
rm -f pid status
: >log.txt
setsid nohup bash run.sh >>log.txt 2>&1 </dev/null &
echo $! >pid
"""

STATUS = r"""#!/bin/bash
# Says how training stands: `running`, `ended STATUS`, `lost` or `absent`; then the log
# from line $1 on.
cd "$(dirname "$0")" || exit 1
if [ ! -e pid ]; then
  echo absent
elif [ -e status ]; then
  echo "ended $(cat status)"
elif kill -0 "$(cat pid)" 2>/dev/null; then
  echo running
else
  echo lost
fi
tail -n "+$1" log.txt 2>/dev/null
"""

SUPERVISE = r"""#!/bin/bash
# Asks for a TPU slice, starts training on all of its workers, follows it, and does so
# again when the slice was taken away, until training is done. May be ended and started
# again at any time: the workers go on, and are found.
set -u
@VALUES@
@CREATE@
@BROUGHT@

@SAY@

@JUDGE@

qr() {
  gcloud compute tpus queued-resources "$@" "${where[@]}"
}

# On some workers: on_workers WHICH COMMAND [FLAG...]
on_workers() {
  local which=$1 command=$2
  shift 2
  qr ssh "$name" --worker="$which" --command="$command" "${reach[@]}" "$@"
}

# State of the slice: ABSENT where there is none, UNKNOWN where nobody can tell.
state() {
  local text
  if text=$(qr describe "$name" --format='value(state.state)' 2>"$folder/errors.txt")
  then
    echo "${text:-UNKNOWN}"
  elif grep -q NOT_FOUND "$folder/errors.txt"; then
    echo ABSENT
  else
    cat "$folder/errors.txt" >&2
    echo UNKNOWN
  fi
}

# Returns when the slice is there; fails when it cannot be had.
acquire() {
  local now before= failures=0
  while :; do
    now=$(state)
    [ "$now" = "$before" ] || say "slice $name: $now"
    before=$now
    case $now in
      ACTIVE) return 0 ;;
      ABSENT) qr create "$name" "${create[@]}" || failures=$((failures + 1)) ;;
      # Of a slice that was taken away, or never came, nothing is left to use.
      SUSPENDED | FAILED)
        [ "$now" = SUSPENDED ] || failures=$((failures + 1))
        qr delete "$name" --force || failures=$((failures + 1))
        continue
        ;;
      UNKNOWN) failures=$((failures + 1)) ;;
    esac
    if [ "$failures" -ge 5 ]; then
      say "slice $name cannot be had"
      return 1
    fi
    sleep "$poll_seconds"
  done
}

bring() {
  local sources=()
  for file in "${brought[@]}"; do sources+=("$folder/$file"); done
  for file in "$folder"/*.whl; do [ -e "$file" ] && sources+=("$file"); done
  on_workers all "mkdir -p $remote" \
    && qr scp "${sources[@]}" "$name:$remote" --worker=all "${reach[@]}" \
    && on_workers all "bash $remote/install.sh"
}

# Follows the first worker: all stop together. Sets `status`; 137 for workers that are
# gone, as if a signal had ended them.
follow() {
  local seen=1 text stands
  while :; do
    sleep "$poll_seconds"
    if ! text=$(on_workers 0 "bash $remote/status.sh $seen" 2>"$folder/errors.txt")
    then
      status=137
      [ "$(state)" = ACTIVE ] || return
      continue
    fi
    stands=${text%%$'\n'*}
    if [ "$stands" != "$text" ]; then
      text=${text#*$'\n'}
      printf '%s\n' "$text" | tee -a "$logs/first.txt"
      seen=$((seen + $(printf '%s\n' "$text" | wc -l)))
    fi
    case $stands in
      ended*)
        status=${stands#ended }
        return
        ;;
      lost | absent)
        status=137
        return
        ;;
    esac
  done
}

finish() {
  if [ "$keep" = yes ]; then
    say "slice $name is kept, and costs"
  else
    say "slice $name is given back"
    qr delete "$name" --force
  fi
  exit "$1"
}

restarts=0 errors=0
while :; do
  logs=$folder/logs/$(date -u +%Y%m%dT%H%M%S)
  mkdir -p "$logs"
  acquire || finish 1
  started=$SECONDS
  stands=$(on_workers 0 "bash $remote/status.sh 1" 2>"$folder/errors.txt")
  if [ "${stands%%$'\n'*}" = running ]; then
    say 'training runs already'
    follow
  elif bring && on_workers all "bash $remote/start.sh"; then
    follow
  else
    # Taken away while it was made ready, or not fit for the code: told by the state.
    status=1
    [ "$(state)" = ACTIVE ] || status=137
  fi
  # A file a worker, as many as still answer.
  on_workers all "cat $remote/log.txt" --output-directory="$logs" \
    >"$folder/errors.txt" 2>&1 || say "logs of some workers are lost"
  judge "$status" $((SECONDS - started))
  case $verdict in
    done)
      say 'training is done'
      finish 0
      ;;
    stop) finish "$status" ;;
    again)
      restarts=$((restarts + 1))
      say "ended with $status; restart $restarts of $max_restarts"
      ;;
  esac
done
"""

STOP = r"""#!/bin/bash
# Ends training for good: workers save, and supervise.sh gives the slice back.
set -u
@VALUES@
touch "$folder/stop"
gcloud compute tpus queued-resources ssh "$name" --worker=all \
  --command="kill -TERM \$(cat $remote/pid)" "${reach[@]}" "${where[@]}"
"""
