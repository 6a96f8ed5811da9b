# Schedule of DCANet's detectors (mmdet 0.6, the authors' config files): 24
# epochs with steps after 16 and 22, warm-up from a third, clipped gradients.
_base_ = 'mmdet::_base_/schedules/schedule_2x.py'

optim_wrapper = dict(clip_grad=dict(max_norm=35, norm_type=2))
param_scheduler = [
    dict(
        type='LinearLR', start_factor=1 / 3, by_epoch=False, begin=0, end=500),
    dict(
        type='MultiStepLR',
        begin=0,
        end=24,
        by_epoch=True,
        milestones=[16, 22],
        gamma=0.1)
]
