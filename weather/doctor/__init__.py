"""The doctor of stores: every time looked at, and everything that is wrong named.

`check.check_store` is the whole; `table` shows what it found. Reading is `scanning`,
what a fault is `verdicts` and `time_axis`. What is done about faults is not decided
here but where data are used: `weather.data.faults`.
"""
