COMMANDS = setup demo test proof bench lint format
.PHONY: $(COMMANDS)
$(COMMANDS):
	@$(or $(PYTHON),python3) make.py $@ $(ARGS)
