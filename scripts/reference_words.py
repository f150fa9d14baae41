"""What the names in docs/reference.md mean, where the code has no place to say it."""

from __future__ import annotations

KEYS = {
    "telemetry": "What is sampled of the server, its GPUs and this machine.",
    "about": "A line for people.",
    "Workload.about": "Whom the traffic resembles.",
    "Workload.name": "Name in reports and in the folder's name.",
    "Workload.loop": "Open or closed loop.",
    "Workload.classes": "Classes of requests by name; each as `classes.NAME` below.",
    "Workload.drain": "What happens at the end of the offer.",
    "mode": "Which of these it is.",
    "rule": "Which rule ends the run before its length is reached.",
    "process": "Which arrival process.",
    "dist": "Which distribution.",
    "shape": "Which rate function.",
    "kind": "What kind of target.",
    "users": "Users; each has one request at a time.",
    "think_time": "Pause of a user between the end of a reply and the next request.",
    "input_tokens": "Length of the prompt.",
    "output_tokens": "Length of the reply; an upper limit where the server cannot be forced.",
    "value": "The length.",
    "low": "Smallest length.",
    "high": "Largest length.",
    "min": "Lengths below are set to it.",
    "max": "Lengths above are set to it.",
    "mean": "Mean before clipping.",
    "std": "Standard deviation before clipping.",
    "values": "The lengths to draw from.",
    "parts": "Distributions, each as those above.",
    "Step.name": "What the other steps call it.",
    "ConstantTime.value": "The time; where it is the only one, it may stand alone: `5s`.",
    "UniformTime.low": "Shortest time.",
    "UniformTime.high": "Longest time.",
    "ExponentialTime.mean": "Mean before it is bounded.",
    "LognormalTime.mean": "Mean before it is bounded.",
    "EmpiricalTime.values": "The times to draw from.",
    "Drain.mode": "`wait`: for every reply; `cut`: end them at once; `grace`: end them after `grace`.",
    "talk": "How requests are made and read; see `talk` below.",
    "engine": "The simulated engine; see `engine` below.",
    "port": "Port to serve on; 0: a free one.",
    "environ": "Environment variables of the server, over the current ones.",
    "ready_path": "GET of it must answer 200 before requests are sent.",
    "ready_timeout": "How long the start may take.",
    "stop_timeout": "How long the server may take to end before it is killed.",
    "Talk.stream": "Ask for a stream; without one there is no TTFT, TTFO or TPOT.",
    "Talk.transport": "`fast`: own sockets, kernel receive stamps; `aiohttp`: user-space stamps, needed for a proxy.",
    "Talk.connection": "Keep connections in a pool, open one for each request, or keep one for each session.",
    "Talk.api_key_env": "Environment variable that holds the API key.",
    "Talk.api_key_file": "File that holds the API key.",
    "Talk.ca_bundle": "PEM file of trusted certificates.",
    "Talk.timeouts": "See `talk.timeouts` below.",
    "Talk.per_event_usage": "Ask for `continuous_usage_stats`: the server counts tokens in every event.",
    "Talk.return_token_ids": "Ask for token ids, which count tokens whose text is empty.",
    "Talk.extra_body": (
        "Body fields over our own; null removes a field, the text `{output_tokens}` becomes the request's length. "
        "`prompt`, `messages`, `input`, `priority` and `stream` cannot be set."
    ),
    "Timeouts.connect": "From the start of a request until it is handed over, TLS included; outcome `timeout_connect`.",
    "Timeouts.first_token": "From the start of a request to its first token; outcome `timeout_first_token`.",
    "Timeouts.idle": "Longest silence after sending and within a reply; outcome `timeout_idle`.",
    "Timeouts.total": "The whole request; null: max(10 × the E2E limit, 120 s); outcome `timeout_total`.",
    "Engine.step": "How long an iteration takes.",
    "Engine.max_num_seqs": "Most sequences that run at once.",
    "Engine.max_num_batched_tokens": "Most new tokens in one iteration.",
    "Engine.chunked_prefill": "Split prompts over iterations.",
    "Engine.block_tokens": "Tokens in a block of the KV cache.",
    "Engine.prefix_cache": "Keep and reuse blocks of earlier prompts.",
    "Engine.policy": "Order of waiting requests: first come first served, or by `priority`.",
    "Engine.max_model_len": "Longest prompt and reply together.",
    "Engine.vocab": "Token ids are below it.",
    "Engine.seed": "Seed of the noise.",
    "StepTime.base_ms": "Time of every iteration.",
    "StepTime.token_ms": "Time of each new token.",
    "StepTime.kv_token_ms": "Time of each token held in the KV cache by what runs.",
    "StepTime.sequence_ms": "Time of each running sequence.",
    "StepTime.attention_ms": "Time of each new prompt token times each token before it.",
}

COLUMNS = {
    "requests": {
        "index": "Row of the plan.",
        "class": "Class of the request.",
        "session": "Session; in a closed loop the user.",
        "turn": "Place within the session, from 0.",
        "worker": "Generator process that had it.",
        "backend": "Which server answered, where there are several and it is known.",
        "phase": "Where its scheduled time lies.",
        "scheduled_ns": "When it was due. In a closed loop: the end of the user's last reply plus the think time. "
        "In a session: the last end of what it waits for plus its delay; null where that never came.",
        "started_ns": "When the client began to act on it.",
        "connected_ns": "When its connection stood.",
        "sent_ns": "When its first byte was handed to the kernel.",
        "headers_ns": "When the head of the reply came.",
        "first_token_ns": "First token-bearing event of any channel.",
        "first_output_ns": "First event with content or a tool call.",
        "last_token_ns": "Last token-bearing event; the end of a reply that was not streamed.",
        "end_ns": "When the stream closed or failed.",
        "input_tokens_planned": "Length of the prompt in the plan.",
        "output_tokens_planned": "Length of the reply in the plan.",
        "input_tokens": "Prompt tokens by the server's usage.",
        "output_tokens": "Output tokens, by `tokens_source`.",
        "reasoning_tokens": "Of them reasoning, by usage.",
        "cached_tokens": "Prompt tokens that the server took from its cache, by usage.",
        "first_chunk_tokens": "Tokens in the first token-bearing event, where the server said.",
        "chunks": "Token-bearing events.",
        "reads": "Reads of the socket.",
        "tokens_source": "Where `output_tokens` comes from.",
        "priority": "Priority sent.",
        "outcome": "How it ended.",
        "http_status": "Status of the reply.",
        "error": "Why it failed, at most 500 characters, secrets removed.",
        "finish_reason": "What the server gave; of responses, in the words of the other APIs: `stop`, `length`, `abort`.",
        "connection_new": "Whether its connection was opened for it.",
        "reconnects": "1 where a pooled connection had closed before any byte came and it was sent again.",
        "receive_lag_max_ns": "Largest time between the kernel's stamp and the client's read.",
        "first_token_error_ns": "How much earlier the first token may have come; 0: exact.",
        "follows": "Whether it waited for others of its session, and had no time of its own in the plan.",
        "ttft_s": "Time to first token, from scheduled.",
        "ttfo_s": "Time to first output, from scheduled.",
        "tpot_s": "Time per output token after the first.",
        "e2e_s": "End to end, from scheduled; null unless ok.",
        "ttft_sent_s": "Time to first token, from sent.",
        "e2e_sent_s": "End to end, from sent.",
        "send_lag_s": "started − scheduled.",
        "max_gap_s": "Largest gap between two token-bearing events.",
        "slo_met": "Whether it met the limits of its class; null where that cannot be judged.",
    },
    "chunks": {
        "index": "Request.",
        "t_ns": "When it was received.",
        "tokens": "Tokens in it, where the server said.",
        "bytes": "Bytes of the event.",
        "channel": "Kind of token.",
        "lag_ns": "Time between the kernel's stamp and the client's read.",
        "coalesced": "Another token event followed in the same read, so this one may have come earlier than `t_ns`.",
    },
    "plan": {
        "index": "Row.",
        "scheduled_ns": "When it is due; null in a closed loop, and where it follows others.",
        "class": "Class of the request.",
        "session": "Session; in a closed loop the user.",
        "turn": "Place within the session, from 0.",
        "prompt": "What the prompt is made from: the same number under the same nonce is the same prompt.",
        "input_tokens": "Length of the prompt.",
        "output_tokens": "Length of the reply.",
        "priority": "Priority to send.",
        "after": "Only with sessions. Bit k: it waits for the row of its session k + 1 rows before it.",
        "delay_ns": "Only with sessions. From the last end of what it waits for to its own scheduled time.",
        "patience_ns": "Only with patience. From its scheduled time until its user disconnects; null: never.",
        "images": "Only with images. How many it has.",
        "content_key": "Only where prompts share beginnings. Streams that the prompt begins with, in order.",
        "content_tokens": "Only with `content_key`. Tokens taken from the beginning of each stream.",
    },
    "telemetry": {
        "t_ns": "When it was sampled.",
        "source": "`worker-0`, `worker-1`, …; `server` (of several `server-0`, …) for what a server tells of itself; "
        "`gpu-0`, …; `host`.",
        "name": "What was sampled; see below.",
        "labels": 'Labels of the sample, as in an exposition: `engine="0",le="0.5"`; null where there are none.',
        "value": "The value.",
    },
}

WORKER_METRICS = {
    "heartbeat_overshoot_ns": "How late a 50 ms timer fired, each.",
    "cpu_s": "CPU seconds of the process so far.",
    "gc_pause_ns": "One garbage collection, each.",
    "throttled_s": "Time that a cgroup quota stopped it, so far.",
    "steal_share": "Share of the host's CPU stolen since the last sample.",
    "open_fds": "Open file descriptors.",
    "fd_limit": "Most that it may open.",
    "in_flight": "Requests in flight.",
    "clock_steps": "Reads whose kernel stamp could not be believed, so far.",
    "unstamped_reads": "Reads without a stamp, so far.",
    "reads": "Reads so far.",
    "wall_step_ns": "A step of the wall clock against the monotonic one, each.",
}

SERVER_METRICS = {
    "requests_total": "Requests that it ended, whatever the reason, so far.",
    "process_start_s": "When its process began, seconds since 1970.",
    "ttft_sum_s": "Sum of its own times to first token so far.",
    "ttft_count": "Their number so far.",
    "prefix_query_tokens": "Prompt tokens that it looked up in its prefix cache so far.",
    "prefix_hit_tokens": "Prompt tokens that it found there so far.",
    "running": "Requests in its batch.",
    "waiting": "Requests in its queue.",
    "kv_usage": "Share of its KV cache in use.",
    "preemptions_total": "Requests put back into the queue to free their KV cache, so far.",
    "input_tokens_total": "Prompt tokens so far.",
    "output_tokens_total": "Tokens generated so far.",
    "ttft_bucket": "Its times to first token above the bound before `le` and up to `le`, so far.",
    "queue_sum_s": "Sum of the times that requests waited in its queue, so far.",
    "queue_count": "Their number so far.",
    "queue_bucket": "Those in one bucket so far.",
    "prefill_sum_s": "Sum of the times from admission to first token, so far.",
    "prefill_count": "Their number so far.",
    "prefill_bucket": "Those in one bucket so far.",
    "decode_sum_s": "Sum of the times from first to last token, so far.",
    "decode_count": "Their number so far.",
    "decode_bucket": "Those in one bucket so far.",
    "iteration_tokens_sum": "Tokens of its iterations, prompts and outputs, so far.",
    "iteration_tokens_count": "Its iterations so far.",
    "iteration_tokens_bucket": "Iterations in one bucket of tokens so far.",
    "scrape_s": "How long it took to answer.",
}

GPU_METRICS = {
    "gpu_utilisation": "Share of time in which a kernel ran, as the driver last measured it.",
    "gpu_memory_used_bytes": "Memory in use.",
    "gpu_memory_bytes": "Memory in all.",
    "gpu_power_w": "Power.",
    "gpu_power_limit_w": "Most power that it may draw.",
    "gpu_sm_clock_mhz": "Clock of its processors.",
    "gpu_memory_clock_mhz": "Clock of its memory.",
    "gpu_temperature_c": "Temperature, °C.",
    "gpu_throttled": "1 where power or heat hold its clocks down, else 0.",
    "gpu_energy_j": "Energy so far, since the driver was loaded.",
}

HOST_METRICS = {
    "host_cpu_share": "Share of all cores that was busy since the last sample.",
    "host_memory_used_bytes": "Memory in use.",
    "host_memory_bytes": "Memory in all.",
    "host_received_bytes": "Bytes received by all network interfaces so far.",
    "host_sent_bytes": "Bytes sent so far.",
    "telemetry_cpu_s": "CPU time of the thread that samples the source in the label `lane`, so far.",
}

OUTCOMES = {
    "ok": "Terminal event, finish reason and, where the length was forced, all its tokens.",
    "http_error": "Status other than 2xx.",
    "stream_error": "An error inside a reply of status 200.",
    "truncated": "The reply ended well by HTTP but without its terminal event, finish reason or all tokens due.",
    "empty": "No token came.",
    "malformed": "What came is not what the API speaks.",
    "timeout_connect": "No connection in time.",
    "timeout_first_token": "No token in time.",
    "timeout_idle": "Silence within a reply for too long.",
    "timeout_total": "Not ended in time.",
    "connection": "Refused, reset or closed before the reply was whole.",
    "client": "The client could not send it.",
    "dropped": "More were in flight than `max_in_flight` allows; never sent. The run is INVALID.",
    "cancelled": "An impatient user went away, as planned.",
    "cut": "In flight when the run was ended.",
    "unsent": "Never due: the run was ended before.",
    "lost": "Its generator process died.",
}

PHASES = {
    "warmup": "Before the measurement window.",
    "main": "In the measurement window.",
    "drain": "After it, or never scheduled.",
}

CHANNELS = {
    "content": "Text of the answer.",
    "reasoning": "Reasoning shown by the server.",
    "tool": "A tool call.",
    "refusal": "A refusal.",
}

SOURCES = {
    "usage": "The server's usage.",
    "chunks": "Token ids or events counted; token metrics are *approximate*.",
    "tokenizer": "A tokenizer on the client; none is used at present.",
}

EXITS = {
    "OK": "All well.",
    "TOOL": "slobench failed, or files cannot be read or written.",
    "USAGE": "A command, a workload, a target or an SLO cannot be used as given.",
    "INVALID": "The run is INVALID: see its findings.",
    "SLO": "An SLO objective was missed. Without an objective (`attainment`, `availability`, `error_rate`, a percentile) never given.",
    "REGRESSION": "A regression: `slobench gate` found NEW worse.",
    "TARGET": "The target did not start, died, or gave no request its reply.",
    "UNDECIDED": "It could not be decided: `run --until-decided` reached its bound first, `capacity` found no load that it could certify.",
    "INTERRUPTED": "Interrupted by the user; the files are written.",
}

RUN_JSON = {
    "schema": "Version of this file.",
    "slobench": "Version that made the run.",
    "name": "The workload's name.",
    "spec": "`workload`, `target` (without secrets) and `slo` (the clauses), resolved.",
    "seed": "Root seed.",
    "plan": "`digest` (sha256), `rows`, `rate` (requests/s over the plan), `distinct_prompts` (at least), and `sharing`: what a "
    "prefix cache without bounds finds of them (`block_tokens`, `tokens`, `hit_tokens`, `blocks`, `hit_blocks`), null for nothing.",
    "nonce": "Random, in the first block of every unique prompt of this run.",
    "settings": "`requested`: the target as configured; `observed`: what the running server said of itself.",
    "versions": "slobench, Python, OpenSSL, libraries.",
    "host": "Machine, kernel, CPU, memory, cgroup limits, clock source, load.",
    "server": "URL, model, `max_model_len`, `forces_length`, timeouts, API, transport, connection mode.",
    "clock": "`monotonic_ns` and `wall_ns` of one moment, `start_ns` = 0 of the run's clock on the monotonic one.",
    "workers": "Generator processes.",
    "stamps": "`kernel` or `user`: where receive times come from.",
    "receiver": "`native` or `python`: what read the streams; null with transport `aiohttp`.",
    "vr": "Variance reduction; `off`: exact draws.",
    "thresholds": "Limits of the validity checks that held.",
    "cores": "Cores that the generator could use, one left for a target on the same machine.",
    "ceiling": "What this machine could offer by its self-test: `machine`, `workers`, `requests_per_s`, "
    "`tokens_per_s`, `streams`, `version`, `measured`; null where it never made one.",
    "stopping": "`rule` (fixed, decided, precision), `planned_looks_s`, `looks` (what each found), `found` (met, missed, "
    "precise), `reason` (that, bound, or how else the run ended), `stopped_s` (when a rule ended the offer).",
    "run": (
        "`by` (count or duration), `duration_s`, `started`, `stop`, `interrupted`, `target_died`, `end_ns`, `notes`, "
        "`workers_lost`, `spool_error`."
    ),
    "telemetry": "How the sampling went: `interval_s`, `cpu_s`, `sources` (samples and failures of each), `servers` "
    "(`source`, `url`, `kind`), `gpus` (`source`, `name`), `gpus_absent` (why none was sampled).",
    "summary": "What `run --json` prints, without `out`.",
    "findings": "As in `summary`.",
    "verdict": "As in `summary`.",
    "exit": "As in `summary`.",
}

SUMMARY_JSON = {
    "verdict": "The whole verdict line.",
    "exit": "Exit code.",
    "findings": "List of `code`, `level` (warning, invalid, server), `seen`, `limit`, `text` (what it does to the numbers), "
    "`advice`, `side`.",
    "slo": (
        "By class, and `all`: `attainment`, `low`, `high`, `met` (null without an objective), `n`, `n_eff`, "
        "`design_effect`, `population`, `good`, `not_judged`, `left_out`, `vacuous`, `attainment_admitted`, "
        "`marginal` (by clause), `binding`, `goodput_rps`, `good_tokens_per_s`, `goodput` (both with intervals), "
        "`objectives`, `budgets` (each objective's error budget: `target`, `misses`, `allowed`, `used`, `over_time`, "
        "`pairs`)."
    ),
    "latency": (
        "By metric and statistic (`mean`, `min`, `p1`, `p50`, `p90`, `p95`, `p99`, `p99.9`, `max`): `value`, `low`, "
        "`high`, `n`, `n_eff`, `design_effect`, `note`; seconds. Successful requests of the window."
    ),
    "load": "Rates over the window, counts over the whole run, in flight, send lag.",
    "errors": "Occurrences of each message by outcome, whole run.",
    "stopping": "As in run.json: the rule that ended the run, and its looks.",
    "out": "Folder of the run.",
    "valid": "Whether the verdict is VALID.",
    "exits": "Every exit code that holds.",
    "statement": "The result as one line that can be read alone.",
    "window": "`start_s`, `end_s`, mean and p99 E2E, `whole_run`, `steady`.",
    "outcomes": "Counts by class and outcome, whole run.",
    "load_by_class": "`load` for each class.",
    "latency_by_class": "`latency` for each class.",
    "latency_with_failures": "The same with every failure as +∞ (`value` null and `infinite` true).",
    "latency_full_run": "The same over the whole run, without intervals.",
    "sessions": "By class whose requests follow one another: `begun`, `complete`, `broken_off`, `unfinished`, `not_sent` (what "
    "a failure or a user's leaving took with it), `per_s`, `requests_mean`, `e2e_s` (of whole sessions, by statistic).",
    "tokens_source": "Where output tokens come from, counted.",
    "approximate_tokens": "Whether token metrics are approximate.",
    "server": "What the server, its GPUs and the host told over the window, by name; what was not told is left out. A "
    "quantile is the bucket (above, up to) in which it lies, null for a last bucket without an end.",
}
