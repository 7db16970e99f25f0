# Each target is one line that calls cargo xtask; `cargo xtask --help` knows more.
# Everything is built outside the clone, in $ORDERSHOP_CACHE, so that a second clone compiles only what differs.

.PHONY: up demo faults test e2e plugin bench down

up: ## A cluster with a whole shop on it; prints the URL
	@cargo xtask up

demo: ## Redis and the nine services on this machine, no cluster
	@cargo xtask demo

faults: ## The shop under kill, scale and poison, an accountant checks every cent; `make faults CLUSTER=1` on the cluster
	@cargo xtask faults $(if $(CLUSTER),--cluster)

test: ## Everything that can be checked, the cluster included; `make test FULL=1` in its long form
	@cargo xtask test $(if $(FULL),--full)

e2e: ## The operator on the real cluster: `make e2e FULL=1` runs the long tests too, `ONLY=text` some
	@cargo xtask e2e $(if $(FULL),--full) $(if $(ONLY),--only $(ONLY))

plugin: ## `kubectl ordershop`: `make plugin TO=/usr/local/bin`
	@cargo xtask plugin $(if $(TO),--to $(TO))

bench: ## The event store beside raw Redis commands: `make bench ARGS="append --rounds 3"`
	@cargo xtask bench $(ARGS)

down: ## Removes all that `up` made
	@cargo xtask down
