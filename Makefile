# Every target works on a fresh checkout: the environment is made on first use.
#
#   make attack     run the attack (DIGIT=3 DATASET=mnist-5k ROUNDS= SEED=0 OUT=out) and say what it recovered;
#                   on faces with DATASET=faces TARGET=s5, on your own images with DATA=folder TARGET=class
#   make test       everything that CI runs
#   make lab        JupyterLab on notebooks/
#   make demo       a page on localhost (PORT=8866): recorded and live attacks; or for a class (IP=0.0.0.0 CERTIFICATE=pem KEY=pem)
#   make latency    from a click in the explorer to the picture, in a browser
#   make load       300 viewers of one demo while an attack trains; with MINUTES=60, viewers who come and go for an hour,
#                   into notebooks/runs/soak.csv
#   make notebooks  execute all notebooks again, in place
#   make exercises  write the exercises into the notebooks, and the solutions
#   make site       the site, into out/site (REPOSITORY=owner/name adds links to edit, and to open in Colab)
#   make records    run the attack, with and without injection, and the oracle again on all digits (or DIGITS="3 9"), into
#                   notebooks/runs, and draw the README's pictures
#   make table      attack, oracle and honest baseline, for all digits and several seeds, into notebooks/runs/seeds.csv
#   make anatomy    the settings that notebook 05 compares, into notebooks/runs/anatomy.csv
#   make defences   those of notebook 06, into notebooks/runs/defences.csv and detection.csv
#   make faces      the attack on people, and what it is compared with, into notebooks/runs/faces.csv
#   make bench      what things cost here, side by side, into notebooks/runs/bench.md (ORIGINAL=script.py)
#   make flower     the attack on Flower's engine, simulated on this computer (NODES=2 DIGIT=3 ROUNDS= OUT=out)
#   make scale      what notebook 07 compares, into notebooks/runs (engines, draws, flower, crowds and campus)
#   make interrupts ends runs of the attack at fifty random moments (KILLS=50), and goes on
#   make properties the properties of averages, partitions and records, on 20,000 generated cases
#   make audit      known faults of the installed packages
#   make oldest     everything that CI runs, with the oldest release of each package but the site's, in .venv-oldest

PYTHON ?= python3
DIGIT ?= 3
DATASET ?= mnist-5k
DATA ?=
TARGET ?=
ROUNDS ?=
SEED ?= 0
OUT ?= out
NODES ?= 2
DIGITS ?= 0 1 2 3 4 5 6 7 8 9
PORT ?= 8866
IP ?= 127.0.0.1
MINUTES ?=
KILLS ?= 50
VENV ?= .venv

BIN := $(VENV)/bin
READY := $(VENV)/.ready
FLOWER := $(VENV)/.flower
SITE := $(VENV)/.site
# Whoever wants the results elsewhere may have no right to write here; and photographs of people do not belong in img/.
PICTURES = $(if $(subst x-out,,x-$(OUT))$(findstring faces,$(DATASET)),,--pictures img)

# Jupyter, IPython and matplotlib write into a home folder: where there is none, into one for this command.
ifneq ($(shell [ -d "$$HOME" ] && [ -w "$$HOME" ] && echo usable),usable)
export HOME := $(shell mktemp -d)
endif

# The notebooks run in notebooks/, where a relative path would mean another folder.
ifdef FL_GAN_DATA
override FL_GAN_DATA := $(or $(shell mkdir -p "$(FL_GAN_DATA)" && cd "$(FL_GAN_DATA)" && pwd),$(error \
	FL_GAN_DATA=$(FL_GAN_DATA) is no folder that can be used: name one, or leave it out))
export FL_GAN_DATA
endif

.PHONY: attack test lab demo latency load notebooks exercises site records table anatomy defences faces bench flower scale interrupts properties audit oldest

# In the environment, and not in the recipe, names and paths may have any character in them.
attack: export ATTACK_TARGET = $(or $(TARGET),$(if $(DATA)$(findstring faces,$(DATASET)),,$(DIGIT)))
attack: export ATTACK_DATA = $(DATA)
attack: export ATTACK_OUT = $(OUT)
attack: $(READY)
	@$(BIN)/python -m fl_gan_lib attack --dataset $(DATASET) --seed $(SEED) $(ROUNDS:%=--rounds %) --out="$$ATTACK_OUT" \
		$(if $(ATTACK_TARGET),--target="$$ATTACK_TARGET") $(if $(DATA),--data="$$ATTACK_DATA",$(PICTURES))

test: $(READY) $(FLOWER) site
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --nbval --ignore tests/browser notebooks tests \
		--numprocesses 2 --dist loadfile --no-loadscope-reorder
	$(BIN)/python -m pytest tests/browser --numprocesses 2 --dist loadfile --screenshot only-on-failure --output out/browser/failed

lab: $(READY) $(FLOWER)
	$(BIN)/jupyter lab notebooks --LabApp.news_url=None \
		--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate

demo: $(READY)
	$(BIN)/python -m fl_gan_lib demo --ip $(IP) --port $(PORT) \
		$(if $(CERTIFICATE),--certificate "$(CERTIFICATE)") $(if $(KEY),--key "$(KEY)")

latency: $(READY)
	$(BIN)/python tests/browser/measure.py latency

load: $(READY)
	$(BIN)/python tests/browser/measure.py $(if $(MINUTES),soak --minutes $(MINUTES),load)

# Without the state of the widgets: the explorer leaves its own copy for pages without a kernel.
notebooks: $(READY) $(FLOWER)
	$(BIN)/jupyter nbconvert --to notebook --execute --inplace --ExecutePreprocessor.record_timing=False \
		--ExecutePreprocessor.store_widget_state=False notebooks/*.ipynb notebooks/solutions/*.ipynb

exercises: $(READY)
	$(BIN)/python -m fl_gan_lib exercises

# Warnings are errors: a link that leads nowhere, a page in no table of contents.
site: $(SITE)
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --conf-dir notebooks/pages --doctree-dir out/doctrees \
		notebooks out/site

records: $(READY)
	$(BIN)/python -m fl_gan_lib table --kinds attack passive "class held back" oracle --seeds 0 --digits $(DIGITS)
	$(BIN)/python -m fl_gan_lib pictures --folder notebooks/runs --images img

table: $(READY)
	$(BIN)/python -m fl_gan_lib table

anatomy: $(READY)
	$(BIN)/python -m fl_gan_lib anatomy

defences: $(READY)
	$(BIN)/python -m fl_gan_lib defences
	$(BIN)/python -m fl_gan_lib gradients

faces: $(READY)
	$(BIN)/python -m fl_gan_lib faces

bench: $(READY)
	$(BIN)/python tests/bench/bench.py $(if $(ORIGINAL),--original "$(ORIGINAL)")

flower: $(READY) $(FLOWER)
	$(BIN)/python -m fl_gan_lib flower --target $(DIGIT) --nodes $(NODES) --out "$(OUT)" $(ROUNDS:%=--rounds %)

scale: $(READY) $(FLOWER)
	$(BIN)/python -m fl_gan_lib scale

interrupts: $(READY)
	$(BIN)/python tests/recording/interrupt.py $(KILLS)

properties: $(READY)
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest tests/test_properties.py --hypothesis-show-statistics

# Needs the advisories of the index that pip installs from.
audit: $(READY)
	$(BIN)/python -m pip check
	$(BIN)/python -m pip freeze --exclude-editable > $(VENV)/frozen.txt
	$(PYTHON) -m venv $(VENV)/audit && $(VENV)/audit/bin/python -m pip install --quiet pip-audit
	$(VENV)/audit/bin/pip-audit --strict --disable-pip --no-deps --requirement $(VENV)/frozen.txt

oldest:
	$(PYTHON) -m venv --clear .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --editable ".[flower,site]" $$(sed -n 's/#.*//; s/>=/==/p' requirements.txt) \
		"$$(sed -n 's/^flower = \["\(.*\)>=\([0-9.]*\),.*/\1==\2.*/p' pyproject.toml)"
	touch .venv-oldest/.ready .venv-oldest/.flower .venv-oldest/.site
	$(MAKE) test VENV=.venv-oldest

$(READY): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed (make PYTHON=python3.12 ...), this is " + sys.version)'
	@echo "Installing into $(VENV) (some minutes, about 5 GB with the default torch; notebooks/pages/troubleshooting.md has a lighter one)"
	@$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@$(BIN)/python -m pip install --quiet --requirement requirements.txt
	@touch $@

# Not needed for the attack: its tests, and notebooks that leave the one machine.
$(FLOWER) $(SITE): $(READY)
	@$(BIN)/python -m pip install --quiet --editable ".[$(@F:.%=%)]"
	@touch $@
