# Beyond the tables: Faster R-CNN R-50 whose FPN joins its levels by AFF, the
# third use of AFF in its paper ("long skip"). Nothing published for COCO, and
# nothing trained by us. It starts as the plain FPN: every AFF begins as an
# addition. With 2 images a GPU, norms in AFF's global branch see two values;
# --cfg-options model.neck.fusion.norm_cfg.type=SyncBN lets them see all GPUs'.
_base_ = 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'

model = dict(
    neck=dict(
        type='mmattn.FPN',
        fusion=dict(type='AFF', ratio=4, gate_init='identity')))
