import pandas as pd,sys
t=pd.read_csv("faces.unfinished.csv" if len(sys.argv)<2 else sys.argv[1])
l=t.groupby(["setting","person","seed"]).tail(1)
pd.set_option("display.width",200)
print(l.groupby("setting")[["identified","median_rank","accuracy","probe","tstr","copy_ratio","copy_share","seconds"]].agg(["median","min","max"]).round(2).T.to_string())
print(l.groupby("setting").size())
