import numpy as np, random
from PIL import Image, ImageDraw, ImageFont
from fl_gan_lib.records import AttackRecord
from fl_gan_lib.studies.faces import REPORTED
random.seed(20261130)
order=list(REPORTED); a=order[:]; random.shuffle(a); b=order[:]; random.shuffle(b)
R={p:AttackRecord.load(f"faces/attack_{p}.npz") for p in order}
font=ImageFont.load_default(size=22)
def sheet(names,get,label,n):
    W=n*100+60; im=Image.new("L",(W,len(names)*100),255); d=ImageDraw.Draw(im)
    for i,p in enumerate(names):
        d.text((10,i*100+35),label(i),fill=0,font=font)
        for j,x in enumerate(get(p)[:n]): im.paste(Image.fromarray(x).resize((96,96),Image.BICUBIC),(60+j*100,i*100))
    return im
sheet(a,lambda p:R[p].private_samples,lambda i:str(i+1),4).save("match_photos.png")
sheet(b,lambda p:R[p].samples[-1],lambda i:"ABCDEFGHIJ"[i],8).save("match_fakes.png")
print({ "ABCDEFGHIJ"[i]:a.index(p)+1 for i,p in enumerate(b)})
print(a,b)
