# SDA-xNet's recipe for networks with depth attention: these have a batch norm
# between the pooling and the classifier, their baselines have none.
_base_ = './imagenet_sda.py'

model = dict(
    neck=[
        dict(type='GlobalAveragePooling'),
        dict(
            type='ClsBatchNormNeck',
            input_features=2048,
            affine=True,
            eps=1e-5)
    ])
