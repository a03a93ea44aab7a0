"""The forecast model: network, rollout and loss, as pure functions of pytrees."""
