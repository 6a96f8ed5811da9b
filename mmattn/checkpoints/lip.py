"""Names of LIP's ResNets (sebgao/LIP), of any depth."""
from .convert import Rules, Table, below
from .torchvision import network


def _gate(theirs: str, ours: str) -> Rules:
    return {
        f'{theirs}.conv.*': f'{ours}.gate.conv.*',
        f'{theirs}.bn.*': f'{ours}.gate.norm.*',
    }


# Of ``downsample`` also the names in the first stage, which does not pool.
BLOCK = {
    'bottleneck_shared.logit.conv1.*': 'lip_trunk.0.*',
    'bottleneck_shared.logit.bn1.*': 'lip_trunk.1.*',
    'bottleneck_shared.logit.conv2.*': 'lip_trunk.3.*',
    'bottleneck_shared.logit.bn2.*': 'lip_trunk.4.*',
    **_gate('conv2.0.postprocessing', 'lip'),
    'conv2.1.*': 'conv2.*',
    **_gate('downsample.lip.postprocessing', 'downsample_lip'),
    'downsample.conv.*': 'downsample.0.*',
    'downsample.bn.*': 'downsample.1.*',
}

TABLES = (
    Table(
        name='lip',
        signature=('conv1.weight', 'maxpool.logit.conv.weight',
                   'layer{}.{}.bottleneck_shared.logit.conv1.weight'),
        rules={
            **network(BLOCK),
            **below('', 'backbone.', _gate('maxpool.logit', 'maxpool'))
        }),
)
