"""Which reconciler looks after which kind."""

from star_operator.reconcilers import evaluation, grpojob, recdataset, sftjob, teacherrun, verbalization
from star_operator.reconcilers.checkpoint import CheckpointReconciler
from star_operator.reconcilers.context import Context, Reconcile
from star_operator.reconcilers.llmserver import LLMServerReconciler
from star_operator.reconcilers.promotion import PromotionReconciler
from star_operator.reconcilers.promotionpolicy import PromotionPolicyReconciler
from star_operator.reconcilers.retention import RetentionReconciler
from star_operator.reconcilers.retrainschedule import RetrainScheduleReconciler
from star_operator.reconcilers.run import RunReconciler
from star_operator.reconcilers.stardeployment import StarDeploymentReconciler
from star_operator.reconcilers.starpipeline import StarPipelineReconciler


def reconcilers(context: Context) -> dict[str, Reconcile]:
    """Return the reconcilers by kind."""
    return {
        "RecDataset": RunReconciler(recdataset.KIND, context).reconcile,
        "Verbalization": RunReconciler(verbalization.KIND, context).reconcile,
        "TeacherRun": RunReconciler(teacherrun.KIND, context).reconcile,
        "SFTJob": RunReconciler(sftjob.KIND, context).reconcile,
        "GRPOJob": RunReconciler(grpojob.KIND, context).reconcile,
        "Evaluation": RunReconciler(evaluation.KIND, context).reconcile,
        "Checkpoint": CheckpointReconciler(context).reconcile,
        "StarDeployment": StarDeploymentReconciler(context).reconcile,
        "StarPipeline": StarPipelineReconciler(context).reconcile,
        "RetrainSchedule": RetrainScheduleReconciler(context).reconcile,
        "PromotionPolicy": PromotionPolicyReconciler(context).reconcile,
        "Promotion": PromotionReconciler(context).reconcile,
        "LLMServer": LLMServerReconciler(context).reconcile,
        "Retention": RetentionReconciler(context).reconcile,
    }
