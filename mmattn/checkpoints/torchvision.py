"""Names of torchvision's ResNets, which many published baselines share."""
from .convert import Table

TABLE = Table(
    name='torchvision',
    signature=('conv1.weight', 'layer{}.{}.conv1.weight',
               'layer{}.{}.bn1.weight'),
    rules={
        'conv1.*': 'backbone.conv1.*',
        'bn1.*': 'backbone.bn1.*',
        'layer{}.{}.conv{}.*': 'backbone.layer{}.{}.conv{}.*',
        'layer{}.{}.bn{}.*': 'backbone.layer{}.{}.bn{}.*',
        'layer{}.{}.downsample.{}.*': 'backbone.layer{}.{}.downsample.{}.*',
        'fc.*': 'head.fc.*',
    })
