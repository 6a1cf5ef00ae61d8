#include "cri/parts.h"

#include "base/clock.h"

CRI_METHOD(create_container)
{
	CRI_IN(CreateContainerRequest);
	CRI_OUT(CreateContainerResponse);
	struct container_config config;
	const char *id;

	if (require(in->pod_sandbox_id, "pod_sandbox_id", e) < 0 ||
	    container_config_in(&c->arena, in->config, &config, e) < 0 ||
	    container_create(cri_of(ctx)->pods, c, owner_of(ctx), in->pod_sandbox_id, &config, &id, e) < 0)
		return -1;
	out->container_id = text_out(id);
	return 0;
}

CRI_METHOD(start_container)
{
	CRI_IN(StartContainerRequest);

	(void)response;
	if (require(in->container_id, "container_id", e) < 0)
		return -1;
	return container_start(cri_of(ctx)->pods, c, owner_of(ctx), in->container_id, e);
}

/* Seconds as CRI gives them; negative ones count as none, huge ones as for ever. */
static int64_t seconds(int64_t s)
{
	if (s <= 0)
		return 0;
	return s > INT64_MAX / NS_PER_S ? INT64_MAX : s * NS_PER_S;
}

CRI_METHOD(stop_container)
{
	CRI_IN(StopContainerRequest);

	(void)response;
	if (require(in->container_id, "container_id", e) < 0)
		return -1;
	return container_stop(cri_of(ctx)->pods, c, owner_of(ctx), in->container_id, seconds(in->timeout), e);
}

CRI_METHOD(checkpoint_container)
{
	CRI_IN(CheckpointContainerRequest);

	(void)response;
	if (require(in->container_id, "container_id", e) < 0 || require(in->location, "location", e) < 0)
		return -1;
	return container_checkpoint(cri_of(ctx)->pods, c, owner_of(ctx), in->container_id, in->location,
				    seconds(in->timeout), e);
}

CRI_METHOD(remove_container)
{
	CRI_IN(RemoveContainerRequest);

	(void)response;
	if (require(in->container_id, "container_id", e) < 0)
		return -1;
	return container_remove(cri_of(ctx)->pods, c, owner_of(ctx), in->container_id, e);
}

static int containers_listed(struct rpc_context *ctx, struct call *c, const CRI_T(ContainerFilter) *filter,
			     size_t *n, CRI_T(Container) ***out, struct err *e)
{
	struct container_views *views = hold_containers(c);

	if (container_list(cri_of(ctx)->pods, &c->arena, owner_of(ctx), container_filter_in(&c->arena, filter), views,
			   e) < 0)
		return -1;
	*n = views->n;
	*out = CRI_NEWV(&c->arena, views->n);
	for (size_t i = 0; i < views->n; i++)
		(*out)[i] = container_out(&c->arena, &views->v[i]);
	return 0;
}

CRI_METHOD(list_containers)
{
	CRI_IN(ListContainersRequest);
	CRI_OUT(ListContainersResponse);

	return containers_listed(ctx, c, in->filter, &out->n_containers, &out->containers, e);
}

CRI_METHOD(stream_containers)
{
	CRI_IN(StreamContainersRequest);
	CRI_T(Container) **containers;
	size_t n;

	(void)response;
	if (containers_listed(ctx, c, in->filter, &n, &containers, e) < 0)
		return -1;
	return send_in_pieces(ctx, c, "containers", containers, n, e);
}

static void container_info(const struct rpc_context *ctx, struct arena *a, const struct container_view *v,
			   CRI_T(ContainerStatusResponse) *out)
{
	struct str config = { 0 };
	struct info info;
	struct err ignored;

	if (container_config_json(cri_of(ctx)->pods, a, v->owner, v->id, &config, &ignored) < 0)
		config.len = 0;

	info_begin(&info, a);
	info_text(&info, "sandboxID", v->pod_id);
	info_number(&info, "pid", v->pid);
	info_text(&info, "imageID", v->image_id);
	info_text(&info, "state", container_state_name[v->state]);
	info_text(&info, "logPath", v->log_path);
	info_list(&info, "command", v->config->command);
	info_list(&info, "args", v->config->args);
	info_text(&info, "workingDir", v->config->working_dir);
	info_bool(&info, "privileged", v->config->privileged);
	info_bool(&info, "oomKilled", v->oom_killed);
	info_json(&info, "runtimeSpec", config);
	info_end(&info, &out->base);
}

CRI_METHOD(container_status)
{
	CRI_IN(ContainerStatusRequest);
	CRI_OUT(ContainerStatusResponse);
	struct container_views *views = hold_containers(c);

	if (require(in->container_id, "container_id", e) < 0 ||
	    container_status(cri_of(ctx)->pods, &c->arena, owner_of(ctx), in->container_id, views, e) < 0)
		return -1;
	out->status = container_status_out(ctx, &c->arena, &views->v[0]);
	if (in->verbose)
		container_info(ctx, &c->arena, &views->v[0], out);
	return 0;
}

CRI_METHOD(update_container)
{
	CRI_IN(UpdateContainerResourcesRequest);
	struct config_resources *change = resources_in(&c->arena, in->linux);
	struct json_map annotations = map_in(&c->arena, in->n_annotations, in->annotations);

	(void)response;
	if (require(in->container_id, "container_id", e) < 0)
		return -1;
	if (in->windows)
		return err_set(e, ERR_INVALID, "windows: this is a Linux node");
	if (!change)
		return err_set(e, ERR_INVALID, "linux is missing: there is nothing to update");
	return container_update(cri_of(ctx)->pods, c, owner_of(ctx), in->container_id, change, &annotations, e);
}

CRI_METHOD(reopen_log)
{
	CRI_IN(ReopenContainerLogRequest);

	(void)response;
	if (require(in->container_id, "container_id", e) < 0)
		return -1;
	return container_reopen_log(cri_of(ctx)->pods, c, owner_of(ctx), in->container_id, e);
}

/* Both streams may be full, yet the message has to fit: each keeps at least half of it, and what the other
 * does not need. */
static void fit_in_message(struct exec_result *r)
{
	const size_t room = RPC_MESSAGE_MAX - 1024;

	if (r->out.len + r->err.len <= room)
		return;
	if (r->err.len <= room / 2) {
		r->out.len = room - r->err.len;
	} else if (r->out.len <= room / 2) {
		r->err.len = room - r->out.len;
	} else {
		r->out.len = r->err.len = room / 2;
	}
}

CRI_METHOD(exec_sync)
{
	CRI_IN(ExecSyncRequest);
	CRI_OUT(ExecSyncResponse);
	struct exec_result result = { 0 };

	if (require(in->container_id, "container_id", e) < 0)
		return -1;
	if (in->n_cmd == 0 || !*in->cmd[0])
		return err_set(e, ERR_INVALID, "cmd is empty");
	if (in->timeout < 0)
		return err_set(e, ERR_INVALID, "timeout is %lld", (long long)in->timeout);
	if (container_exec_sync(cri_of(ctx)->pods, c, owner_of(ctx), in->container_id,
				strv_in(&c->arena, in->n_cmd, in->cmd), seconds(in->timeout), &result, e) < 0)
		return -1;
	fit_in_message(&result);
	out->stdout = (ProtobufCBinaryData){ result.out.len, (uint8_t *)result.out.p };
	out->stderr = (ProtobufCBinaryData){ result.err.len, (uint8_t *)result.err.p };
	out->exit_code = result.exit_code;
	return 0;
}

/* --- events ------------------------------------------------------------------------------------------ */

static int event_send(struct rpc_context *ctx, struct call *c, const struct pod_event *event, struct err *e)
{
	struct arena *a = &c->arena;
	auto_pod_views pod = { 0 };
	auto_container_views containers = { 0 };
	const struct container_filter filter = { .pod_id = event->pod_id };
	CRI_T(ContainerEventResponse) *m = CRI_NEW(a, container_event_response);
	struct pods *pods = cri_of(ctx)->pods;
	struct err gone; /* a pod that has been removed meanwhile has nothing more to say */

	m->container_id = text_out(event->container_id);
	m->container_event_type = (CRI_T(ContainerEventType))event->kind;
	m->created_at = event->at_wall_ns;
	if (pod_status(pods, a, owner_of(ctx), event->pod_id, &pod, &gone) == 0 &&
	    container_list(pods, a, owner_of(ctx), &filter, &containers, &gone) == 0) {
		m->pod_sandbox_status = pod_status_out(a, &pod.v[0]);
		m->n_containers_statuses = containers.n;
		m->containers_statuses = CRI_NEWV(a, containers.n);
		for (size_t i = 0; i < containers.n; i++)
			m->containers_statuses[i] = container_status_out(ctx, a, &containers.v[i]);
	}
	return rpc_send(ctx, c, &m->base, e);
}

/* Waits for one event and sends it. */
static int event_relay(struct rpc_context *ctx, struct call *c, uint64_t *from, struct err *e)
{
	struct pod_event event;

	if (pod_event_wait(cri_of(ctx)->pods, c, owner_of(ctx), from, &event, e) < 0)
		/* Events are lost to a slow listener: kubelet's relist makes up for them. */
		return e->kind == ERR_EXHAUSTED ? 0 : -1;
	return event_send(ctx, c, &event, e);
}

CRI_METHOD(events)
{
	uint64_t from = pod_events_next_number(cri_of(ctx)->pods);
	int rc;

	(void)request;
	(void)response;
	/* The call lasts as long as kubelet does: each event has an arena of its own. */
	do {
		struct arena whole = c->arena;

		c->arena = (struct arena){ 0 };
		rc = event_relay(ctx, c, &from, e);
		arena_free(&c->arena);
		c->arena = whole;
	} while (rc == 0);
	return rc;
}
