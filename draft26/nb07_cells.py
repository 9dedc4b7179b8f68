md("""
# 07 · Beyond one machine

**What you will learn**

- how the loop of notebook 01 becomes a federation of computers, each with images of its own, on [Flower](https://flower.ai);
- why an attack that works in a loop can silently fail on a real engine;
- who sees what, with encryption and without, and what secure aggregation changes;
- what Flower's own defences do against the attack;
- what a round costs, and what becomes of the attack among thousands.

**You need** [03 · The GAN attack](03_gan_attack.ipynb), and Flower: `pip install -e ".[flower]"` (or `make lab`, which installs it). Nothing else here needs it.

**Run time**: <<RUNTIME>>. The other runs are recorded, and `make scale` repeats them (<<SCALE>>). **Previous**: [06 · Defences](06_defences.ipynb). **Next**: [08 · A class is a person](08_a_class_is_a_person.ipynb).
""")
code(
    """
target = 3  # the digit that the attacker lacks and wants, 0 to 9
num_nodes = 2  # of the simulation: the attacker and the honest participants
rounds = 40  # of the simulation
output = "../out/flower"  # where the record and Flower's logs go
""",
    tags=["parameters"],
)
code("""
import tomllib

import numpy as np
import pandas as pd
import torch

from fl_gan_lib.attack import build_federation, run_attack
from fl_gan_lib.data import load_dataset
from fl_gan_lib.explorer.widget import attack_explorer
from fl_gan_lib.figures import plot_comparison, plot_strips
from fl_gan_lib.flower.engine import simulate
from fl_gan_lib.lessons import check
from fl_gan_lib.notebooks import enter_notebooks
from fl_gan_lib.recording import states
from fl_gan_lib.records import load_records
from fl_gan_lib.studies.figures import plot_hosts, plot_spread
""")
code("""
enter_notebooks()  # the paths below are relative to notebooks/
torch.set_num_threads(1)  # as on Flower's nodes: another number of threads would give other bits
train, _ = load_dataset()
""")
md("""
## 1. From the loop to the federation

So far, a federation was a list of clients in one process, and a round was a loop over them:

$$w_{t+1} = \\sum_k \\frac{n_k}{n}\\, \\mathrm{fit}_k(w_t)$$

Nothing in this formula asks for *one* computer. On Flower the pieces are the same, but they live apart:
""")
code(
    """
hosts = {
    "the server": {"SuperLink": "passes messages on", "ServerApp": "the global model, fedavg"},
    "the victim's computer": {"SuperNode": "asks for messages, keeps the state", "ClientApp": "Client, its images"},
    "the attacker's computer": {
        "SuperNode": "asks for messages, keeps the state",
        "ClientApp": "GANAttacker, its images",
    },
}
plot_hosts(hosts)
""",
    alt="Three boxes: the server with SuperLink and ServerApp, the victim's and the attacker's computer with SuperNode and ClientApp each. Arrows lead from the participants to the server.",
)
md("""
*Look at* the arrows. The participants call the server, and never the other way round. So no participant has to open a port. SuperLink and SuperNode are programs of Flower's that run for months. ServerApp and ClientApp are ours and live for one run.

| here, in one process | on Flower | whose |
| --- | --- | --- |
| `federate` | the ServerApp in [`flower/app.py`](../fl_gan_lib/flower/app.py) | the server's |
| `Client.fit`, `GANAttacker.fit` | the ClientApp's answer to a message, **by the same objects** | each participant's |
| a client's share of the data set | a folder or a file on the participant's own computer | each participant's |
| what a client remembers between rounds | `context.state`, which its SuperNode keeps | each participant's |
| arguments of `run_attack` | the run configuration | whoever starts the run |

**Its own images, and nothing else.** A SuperNode is told where its images are: `flower-supernode ... --node-config 'partition-id=0 data="my_images"'`. A node with other classes or sizes than the federation has agreed on is refused, with the reason in words. One of our tests searches the whole memory of the attacker's process for the victim's images, and finds none. (The same search in the victim's process finds them.)

## 2. Where an attack fails without a word

A loop keeps its clients. An engine does not. It makes a ClientApp **anew for every message**, because a participant may be asked once a week, and nobody keeps a process open for a week. An honest client hardly notices. But the attacker's generator is untrained again in each round, and no error is raised.

Here are two rounds with an attacker that is made anew, and two with one that gets its state back:
""")
code("""
def steps_of_the_generator(keep_state):
    kept = None
    for number in (1, 2):
        model, (_, attacker) = build_federation(train, target)  # the engine calls our code: everything is new
        if keep_state and kept is not None:
            states.load_client(kept, attacker, model)
        attacker.fit(model, number)
        kept = states.dump(attacker.lasting_parts())
    return int(attacker.generator.average.n_averaged)


print("made anew:", steps_of_the_generator(keep_state=False), "steps of the generator after two rounds")
print("with its state:", steps_of_the_generator(keep_state=True))
""")
code("""
_, (_, attacker) = build_federation(train, target)
per_round = attacker.generator_steps
assert steps_of_the_generator(keep_state=False) == per_round
assert steps_of_the_generator(keep_state=True) == 2 * per_round
print("claim holds: only with its state does the generator of round 2 go on from round 1")
""")
md("""
So each client names what lasts from round to round (`lasting_parts`): its local model and optimiser, and for the attacker also the generator. The ClientApp puts their states into `context.state` after each message. A SuperNode keeps this in memory, so it is lost when the SuperNode is killed. With `keep="folder"` in its configuration, a node also writes it to a file of its own, and goes on from there. Random numbers need no keeping: here those of a turn come from the seed, the round and the client's number.

## 3. A simulation

Before you use three computers, simulate them. In Flower's *simulation* the same two apps run on one computer, and a few worker processes play all nodes. `simulate` starts Flower with our app and follows its log. The first half minute is Flower's start.
""")
code(
    """
record = simulate(target, output=output, num_nodes=num_nodes, rounds=rounds)
plot_comparison(record)
""",
    tags=["nbval-ignore-output"],
    alt="Fakes of the digit 3 on Flower, row by row over forty rounds, from stripes to rough 3s, beside private 3s.",
)
md("""
*Look at* the last row: threes, drawn by a participant that has none, in another process than the victim.

Is it the same attack? The strictest test is to compare the bits, with the same seed and one thread, on Flower and in the loop:
""")
code("""
loop = run_attack(target, rounds=rounds, num_honest=num_nodes - 1, device="cpu", progress=False)
assert np.array_equal(record.samples, loop.samples)
assert record.metrics["probe"].iloc[-1] == loop.metrics["probe"].iloc[-1]
print("claim holds: every pixel of every recorded round is the same, on Flower and in the loop")
""")
md("""
**Who measured that?** The probe needs real images of the target, and the attacker has none. At the end, the attacker publishes its fakes, for the lesson. A node that holds real images judges them, if its owner agrees (`judge=true`). Otherwise the record says "not judged".

**To remember**: an engine moves messages. What leaks is in the protocol, and the protocol is the same.

The record is one like any other. The explorer shows it beside the recorded attack of 200 rounds:
""")
code(
    """
attack_explorer({target: record}, beside={"200 rounds, in one process": load_records("runs")})
""",
    tags=["nbval-ignore-output"],
)
md("""
## 4. Three computers

The page [On three computers](pages/campus.md) has every command: keys, certificates, images, nodes, the run. The victim can also hold something that nobody knows. `python -m fl_gan_lib draw` opens a pad and saves a drawn symbol to a file, and the victim's node holds that file. <<SECRET>>

**Who sees what** depends on what protects the connections. With **TLS** the server proves who it is, and all messages are encrypted. With **node authentication** the server only accepts messages that are signed with a registered key.

| | without TLS | with TLS | with TLS and node authentication |
| --- | --- | --- | --- |
| **an eavesdropper** | every global model, and **every single update** that passes | who talks to whom, when, and how much | the same |
| **somebody who wants to take part** | can | can: TLS shows who the *server* is | cannot, without a registered key |
| **somebody who plays the server** | can | cannot | cannot |
| **the server** | every global model, every single update | the same | the same |
| **a participant** | its own images and updates, every global model | the same | the same |
| **whoever starts a run** | sends code that runs *beside the images* | the same | the same |

*Look at* the row of the participant. The attack needs nothing but what a registered participant is sent. TLS and authentication keep out those who have no business here, and the attacker has.
""")
md("""
## 5. Secure aggregation, and Flower's other defences

Flower comes with defences of its own. Here they run, around the same clients, among ten participants for sixty rounds (seed 0):

- **SecAgg+** (Bell et al. 2020): the participants mask their updates, so that the server sees only the sum.
- **Rules of the server**: FedMedian, FedTrimmedAvg, Krum, MultiKrum. They need single updates, so they do not go together with SecAgg+.
- **Differential privacy**: *central*, where the server clips each update and adds noise to the mean; and *local*, where each participant clips and adds noise before it sends.
""")
code("""
parts = pd.read_csv("runs/flower.csv")
last = parts.groupby(["defence", "digit"]).tail(1).set_index(["defence", "digit"])
shown = last[["tstr", "probe", "target_accuracy", "accuracy"]].unstack("digit").round(2)
shown.loc[parts["defence"].drop_duplicates()]
""")
code(
    """
pictures = np.load("runs/flower.npz")
plot_strips({name: pictures[name] for name in parts["defence"].drop_duplicates()}, columns=8)
""",
    alt="<<ALT>>",
)
md("""
<<PARTS>>

Our own rules of notebook 06 exist so that you can read them. On the same updates, Flower's median and Krum give the same bits as ours, and its trimmed mean and its clipping differ by at most 2e-7 (a test).

**Claim.** <<CLAIM>>
""")
code("""
<<CLAIMCODE>>
""")
md("""
## 6. What a round costs

The same work, turn by turn, in the loop, in Flower's simulation and in a deployment, where each node is a process of its own (two cores, `make scale`):
""")
code("""
engines = pd.read_csv("runs/engines.csv")
table = engines.groupby(["nodes", "engine"])[["first_round", "round"]].median().unstack("engine")
table.round(2)
""")
md("""
<<ENGINES>>
""")
md("""
## 7. Where not everybody takes part

In a federation of telephones nobody asks all of them. For each round the server *draws* $m$ of $K$ clients (McMahan et al. 2017). So the attacker takes part in one round of $K/m$ on average. The rounds between run without its fakes, and the federation forgets them. But when it is drawn, it is one of $m$ and not one of $K$, so its fakes weigh more.

Ten participants, one of them the attacker, of whom 10, 5 or 2 are drawn: once for as many *turns* of the attacker (about 60), once for as many *rounds* (60), three seeds each:
""")
code("""
draws = pd.read_csv("runs/draws.csv")
ended = draws.groupby(["drawn", "rounds", "seed"]).tail(1)


def spread(runs):
    return f"{runs.median():.2f} ({runs.min():.2f} to {runs.max():.2f})"


ended.groupby(["drawn", "rounds"])[["tstr", "probe", "accuracy"]].agg(spread).sort_index(ascending=False)
""")
md("""
<<DRAWS>>
""")
md("""
## 8. Thousands

Flower can simulate a participant that exists only while it is asked. Here are a thousand and ten thousand of them on all of MNIST, sixty and six images each. Ten are drawn for each round.
""")
code("""
pd.read_csv("runs/crowds.csv").set_index("participants").T
""")
md("""
<<CROWDS>>

With $m$ of $K$ drawn, the attacker's number of turns in $R$ rounds is $R\\,m/K$ on average. A million participants, a thousand drawn, and 5,000 rounds give five turns. In such a federation one account gets next to nothing. But accounts may be cheap, and whoever has many of them has the turns back (a *Sybil* attack, Douceur 2002). So it counts who may register a key.
""")
md("""
## What this does not show

- One computer played all parts, in our tests with a network for each. The walk through three computers has not been tried on three machines.
- <<LIMITS>>

## Recap

- The same clients run in a loop and on Flower, to the same bits. What lasts between rounds must be kept on purpose.
- Each computer holds only its own images, and the attack works all the same.
- TLS keeps eavesdroppers out, node authentication strangers. The attacker is neither.
- <<RECAP>>
""")
