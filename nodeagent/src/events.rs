//! Reasons of the Events and container states this agent reports, spelt as the kubelet spells them.

pub const PULLING: &str = "Pulling";
pub const PULLED: &str = "Pulled";
pub const CREATED: &str = "Created";
pub const STARTED: &str = "Started";
pub const FAILED: &str = "Failed";
pub const KILLING: &str = "Killing";
pub const BACK_OFF: &str = "BackOff";
pub const UNHEALTHY: &str = "Unhealthy";
pub const SANDBOX_CHANGED: &str = "SandboxChanged";
pub const FAILED_CREATE_POD_SANDBOX: &str = "FailedCreatePodSandBox";
pub const FAILED_KILL_POD: &str = "FailedKillPod";
pub const FAILED_MOUNT: &str = "FailedMount";
pub const FAILED_POST_START_HOOK: &str = "FailedPostStartHook";
pub const FAILED_PRE_STOP_HOOK: &str = "FailedPreStopHook";
pub const DEADLINE_EXCEEDED: &str = "DeadlineExceeded";
pub const ERR_IMAGE_NEVER_PULL: &str = "ErrImageNeverPull";
pub const ERR_IMAGE_PULL: &str = "ErrImagePull";
pub const IMAGE_PULL_BACK_OFF: &str = "ImagePullBackOff";
pub const INVALID_IMAGE_NAME: &str = "InvalidImageName";
pub const IMAGE_INSPECT_ERROR: &str = "ImageInspectError";
pub const CRASH_LOOP_BACK_OFF: &str = "CrashLoopBackOff";
pub const CREATE_CONTAINER_CONFIG_ERROR: &str = "CreateContainerConfigError";
pub const CREATE_CONTAINER_ERROR: &str = "CreateContainerError";
pub const RUN_CONTAINER_ERROR: &str = "RunContainerError";
pub const CONTAINER_CREATING: &str = "ContainerCreating";
pub const POD_INITIALIZING: &str = "PodInitializing";
pub const CONTAINER_STATUS_UNKNOWN: &str = "ContainerStatusUnknown";

// About the Node.
pub const STARTING: &str = "Starting";
pub const NODE_READY: &str = "NodeReady";
pub const NODE_NOT_READY: &str = "NodeNotReady";
pub const REGISTERED_NODE: &str = "RegisteredNode";
