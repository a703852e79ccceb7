"""All kinds, in the order of the chain, and what makes chains of them."""

from typing import Any

from star_operator.api.checkpoint import Checkpoint
from star_operator.api.evaluation import Evaluation
from star_operator.api.grpojob import GRPOJob
from star_operator.api.meta import Resource
from star_operator.api.promotion import Promotion
from star_operator.api.promotionpolicy import PromotionPolicy
from star_operator.api.recdataset import RecDataset
from star_operator.api.retrainschedule import RetrainSchedule
from star_operator.api.sftjob import SFTJob
from star_operator.api.stardeployment import StarDeployment
from star_operator.api.starpipeline import StarPipeline
from star_operator.api.teacherrun import TeacherRun
from star_operator.api.verbalization import Verbalization

KINDS: tuple[type[Resource[Any, Any]], ...] = (
    RecDataset,
    Verbalization,
    TeacherRun,
    SFTJob,
    GRPOJob,
    Evaluation,
    Checkpoint,
    StarDeployment,
    StarPipeline,
    RetrainSchedule,
    PromotionPolicy,
    Promotion,
)
BY_KIND = {kind.INFO.kind: kind for kind in KINDS}
