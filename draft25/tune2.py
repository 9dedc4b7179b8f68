import sys,time,torch,numpy as np,os
torch.set_num_threads(1)
from pathlib import Path
from fl_gan_lib.studies import faces
from fl_gan_lib.studies.identification import *
from fl_gan_lib.studies.faces import *
from fl_gan_lib.studies.faces import _Vary
from fl_gan_lib.attack import GANAttacker
import fl_gan_lib.studies.identification as I
out=Path("tune")
p=Path("identifiers.pt")
if p.exists():
    ids=torch.load(p,weights_only=False); I.load_identifiers=lambda side=32: ids
class Varied(VaryingClient, GANAttacker):
    """fakes and own images varied"""
    def make_discriminator(self, received): return nn.Sequential(_Vary(), super().make_discriminator(received))
class OnlyFakes(GANAttacker):
    def make_discriminator(self, received): return nn.Sequential(_Vary(), super().make_discriminator(received))
from fl_gan_lib.studies.variants import PriorAttacker
class PriorVaried(Varied,PriorAttacker):
    prior_steps=400
class PriorSmooth(PriorAttacker):
    prior_steps=400
    def __init__(self,dataset,*a,make_generator=None,**k): super().__init__(dataset,*a,make_generator=make_generator or partial(SmoothGenerator,dataset.side),**k)
RECIPES={"pv150":{"make_attacker":PriorVaried,"rounds":150},"v150":{"make_attacker":Varied,"rounds":150},"v100":{"make_attacker":Varied,"rounds":100},"prior":{"make_attacker":PriorAttacker},"priorvaried":{"make_attacker":PriorVaried},"priorsmooth":{"make_attacker":PriorSmooth},"plain":{"make_attacker":GANAttacker},"varied":{"make_attacker":Varied},"onlyfakes":{"make_attacker":OnlyFakes},"like":{},
 "plain8":{"make_attacker":GANAttacker,"client_options":{"local_steps":8}}}
for job in sys.argv[1:]:
    name,person,*r=job.split(":"); t=time.time(); tag="_".join(job.split(":"))
    if (out/f"{tag}.csv").exists(): continue
    table,images=identified_attack(person,int(r[0]) if r else 0,**RECIPES[name])
    table.to_csv(out/f"{tag}.csv"); np.save(out/f"{tag}.npy",images)
    print(tag,f"{time.time()-t:.0f} s",table.identified.round(2).tolist(),table.iloc[-1][["accuracy","probe","tstr","copy_ratio","copy_share"]].round(2).to_dict(),flush=True)
