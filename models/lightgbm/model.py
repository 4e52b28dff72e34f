from etcbench.model import serve

serve("lightgbm.LGBMClassifier")
