#include "fakes.h"
#include "pod/session.h"

/* gRPC's head before each message. */
enum { GRPC_HEAD = 5 };

struct fake fake;
const ProtobufCMessage *sent[16];
size_t nsent;

const char *const pod_state_name[POD_STATE_COUNT] = { "creating", "ready", "stopping", "stopped", "removing" };
const char *const container_state_name[CONTAINER_STATE_COUNT] = {
	"creating", "created", "starting", "running", "exited", "unknown", "removing",
};

static int send_kept(struct rpc_context *ctx, struct call *c, const ProtobufCMessage *m, struct err *e)
{
	auto_buf bytes = BUF(RPC_MESSAGE_MAX + GRPC_HEAD);

	(void)ctx;
	if (rpc_pack(&c->arena, (ProtobufCMessage *)m, &bytes, e) < 0)
		return -1;
	return rpc_unpack(&c->arena, m->descriptor, (struct str){ bytes.p + GRPC_HEAD, bytes.len - GRPC_HEAD }, (ProtobufCMessage **)&sent[nsent++], e);
}

int ask(struct call *c, const char *path, const void *request, void **response, struct err *e)
{
	static struct cri cri;
	struct rpc_context ctx = { .app = &cri, .owner = RPC_OWNER_KUBELET, .send = send_kept };
	const struct rpc_method *m = rpc_find(cri_methods, str_of(path));
	auto_buf bytes = BUF(RPC_MESSAGE_MAX + GRPC_HEAD);

	nsent = 0;
	if (!m)
		m = rpc_find(cri_knarr_methods, str_of(path));
	BUG_ON(!m);
	ctx.method = m;
	*response = message_new(&c->arena, m->response);
	if (m->run(&ctx, c, request, *response, e) < 0)
		return -1;
	if (m->flags & RPC_STREAMING)
		return 0;
	/* Packed and read again: what a client would see. */
	if (rpc_pack(&c->arena, *response, &bytes, e) < 0)
		return -1;
	return rpc_unpack(&c->arena, m->response, (struct str){ bytes.p + GRPC_HEAD, bytes.len - GRPC_HEAD }, (ProtobufCMessage **)response, e);
}

static int not_found(struct err *e, const char *id)
{
	return err_set(e, ERR_NOT_FOUND, "there is no %s", id);
}

#define POD struct pods *ps, struct call *c, enum pod_owner owner
#define UNASKED (void)ps, (void)c, (void)owner

int pod_run(POD, const struct pod_config *config, const char **id, struct err *e)
{
	UNASKED;
	(void)e;
	fake.pod = *config;
	*id = "p1";
	return 0;
}

int pod_stop(POD, const char *id, struct err *e)
{
	UNASKED;
	(void)id;
	(void)e;
	return 0;
}

int pod_remove(POD, const char *id, struct err *e)
{
	UNASKED;
	(void)id;
	(void)e;
	return 0;
}

void pod_views_release(struct pod_views *v)
{
	fake.releases += (unsigned)v->n;
	*v = (struct pod_views){ 0 };
}

int pod_list(struct pods *ps, struct arena *a, enum pod_owner owner, const struct pod_filter *f,
	     struct pod_views *out, struct err *e)
{
	(void)ps;
	(void)owner;
	(void)e;
	fake.pod_filter = *f;
	fake.holds += (unsigned)fake.npods;
	*out = (struct pod_views){ arena_memdup(a, fake.pods, sizeof(fake.pods)), fake.npods };
	return 0;
}

int pod_status(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id, struct pod_views *out,
	       struct err *e)
{
	(void)ps;
	(void)owner;
	if (fake.npods == 0)
		return not_found(e, id);
	fake.holds++;
	*out = (struct pod_views){ arena_memdup(a, fake.pods, sizeof(fake.pods)), 1 };
	return 0;
}

int pod_update_resources(struct pods *ps, enum pod_owner owner, const char *id,
			 const struct config_resources *overhead, const struct config_resources *resources,
			 struct err *e)
{
	(void)ps;
	(void)owner;
	(void)id;
	(void)overhead;
	(void)e;
	fake.resources = *resources;
	return 0;
}

int container_create(POD, const char *pod_id, const struct container_config *config, const char **id, struct err *e)
{
	UNASKED;
	(void)pod_id;
	(void)e;
	fake.container = *config;
	*id = "c1";
	return 0;
}

int container_start(POD, const char *id, struct err *e)
{
	UNASKED;
	return not_found(e, id);
}

int container_stop(POD, const char *id, int64_t grace_ns, struct err *e)
{
	UNASKED;
	(void)id;
	(void)e;
	fake.ns = grace_ns;
	return 0;
}

int container_checkpoint(POD, const char *id, const char *location, int64_t timeout_ns, struct err *e)
{
	UNASKED;
	(void)id;
	(void)e;
	fake.location = location;
	fake.ns = timeout_ns;
	return 0;
}

int container_remove(POD, const char *id, struct err *e)
{
	UNASKED;
	(void)id;
	(void)e;
	return 0;
}

int container_kill(POD, const char *id, int signal, struct err *e)
{
	UNASKED;
	(void)signal;
	return not_found(e, id);
}

void container_views_release(struct container_views *v)
{
	fake.releases += (unsigned)v->n;
	*v = (struct container_views){ 0 };
}

int container_list(struct pods *ps, struct arena *a, enum pod_owner owner, const struct container_filter *f,
		   struct container_views *out, struct err *e)
{
	(void)ps;
	(void)owner;
	(void)e;
	fake.container_filter = *f;
	fake.holds += (unsigned)fake.ncontainers;
	*out = (struct container_views){ arena_memdup(a, fake.containers, sizeof(fake.containers)), fake.ncontainers };
	return 0;
}

int container_status(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id,
		     struct container_views *out, struct err *e)
{
	(void)ps;
	(void)owner;
	if (fake.ncontainers == 0)
		return not_found(e, id);
	fake.holds++;
	*out = (struct container_views){ arena_memdup(a, fake.containers, sizeof(fake.containers)), 1 };
	return 0;
}

int container_resources(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id,
			struct config_resources *out, struct err *e)
{
	(void)ps;
	(void)a;
	(void)owner;
	(void)id;
	(void)e;
	*out = fake.resources;
	return 0;
}

int container_config_json(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id, struct str *out,
			  struct err *e)
{
	(void)ps;
	(void)a;
	(void)owner;
	(void)id;
	(void)e;
	*out = str_of("{\"ociVersion\":\"1.0.2\"}");
	return 0;
}

int container_update(POD, const char *id, const struct config_resources *change, const struct json_map *annotations,
		     struct err *e)
{
	UNASKED;
	(void)id;
	(void)annotations;
	(void)e;
	fake.resources = *change;
	return 0;
}

int container_reopen_log(POD, const char *id, struct err *e)
{
	UNASKED;
	return not_found(e, id);
}

int container_exec_sync(POD, const char *id, char *const *argv, int64_t timeout_ns, struct exec_result *out,
			struct err *e)
{
	UNASKED;
	(void)id;
	(void)e;
	fake.argv = argv;
	fake.ns = timeout_ns;
	*out = fake.exec;
	return 0;
}

void container_stats_release(struct container_stats_list *l)
{
	*l = (struct container_stats_list){ 0 };
}

int container_stats_list(struct pods *ps, struct arena *a, enum pod_owner owner, const struct container_filter *f,
			 struct container_stats_list *out, struct err *e)
{
	struct container_stats *s = arena_new0(a, struct container_stats);

	(void)ps;
	(void)owner;
	(void)e;
	fake.container_filter = *f;
	s->view = fake.containers[0];
	s->usage = (struct cgroup_usage){ .at_wall_ns = 5, .has_cpu = true, .cpu_ns = 7, .has_memory = true,
					  .memory_bytes = 9, .has_psi = true, .cpu_some = { 1, 2, 3, 4 } };
	*out = (struct container_stats_list){ s, 1 };
	return 0;
}

int container_stats(struct pods *ps, struct arena *a, enum pod_owner owner, const char *id,
		    struct container_stats_list *out, struct err *e)
{
	const struct container_filter f = { .id = id };

	return container_stats_list(ps, a, owner, &f, out, e);
}

void pod_stats_release(struct pod_stats_list *l)
{
	*l = (struct pod_stats_list){ 0 };
}

int pod_stats_list(struct pods *ps, struct arena *a, enum pod_owner owner, const struct pod_filter *f,
		   struct pod_stats_list *out, struct err *e)
{
	(void)ps;
	(void)a;
	(void)owner;
	(void)e;
	fake.pod_filter = *f;
	*out = (struct pod_stats_list){ 0 };
	return 0;
}

int pods_find_any(struct pods *ps, struct arena *a, const char *id, struct pod_views *pod,
		  struct container_views *container, struct err *e)
{
	(void)ps;
	(void)a;
	if (streq(id, "p1"))
		*pod = (struct pod_views){ fake.pods, 1 };
	else if (streq(id, "c1"))
		*container = (struct container_views){ fake.containers, 1 };
	else
		return err_set(e, ERR_NOT_FOUND, "there is no %s", id);
	return 0;
}

void pod_metrics_release(struct pod_metrics_list *l)
{
	l->n = 0;
}

int pod_metrics_list(struct pods *ps, struct arena *a, enum pod_owner owner, struct pod_metrics_list *out, struct err *e)
{
	(void)ps;
	(void)a;
	(void)owner;
	(void)e;
	*out = (struct pod_metrics_list){ &fake.metrics, 1 };
	return 0;
}

uint64_t pod_events_next_number(struct pods *ps)
{
	(void)ps;
	return 1;
}

/* One start of the first container, then the listener hangs up. */
int pod_event_wait(POD, uint64_t *from, struct pod_event *out, struct err *e)
{
	UNASKED;
	if (*from > 1)
		return err_set(e, ERR_CANCELLED, "hung up");
	*out = (struct pod_event){ .number = (*from)++, .kind = POD_EVENT_STARTED, .container_id = "c1",
				   .pod_id = "p1", .at_wall_ns = 11 };
	return 0;
}

int pods_runtime_ready(struct pods *ps, struct err *e)
{
	(void)ps;
	return fake.not_ready ? err_set(e, ERR_UNAVAILABLE, "still recovering") : 0;
}

int pods_handler_view(UNUSED struct pods *ps, UNUSED struct call *c, const char *name, struct pod_handler_view *out,
		      UNUSED struct err *e)
{
	*out = (struct pod_handler_view){ .name = *name ? name : "native", .native = true, .error = "" };
	return 0;
}

char *const *pods_handlers(struct pods *ps)
{
	static char *const handlers[] = { (char *)"", (char *)"native", NULL };

	(void)ps;
	return handlers;
}

bool pods_have_userns(UNUSED struct pods *ps)
{
	return true;
}

bool pods_use_image(struct pods *ps, const char *image_id)
{
	(void)ps;
	(void)image_id;
	return fake.image_in_use;
}

int net_status(struct net *n, UNUSED struct call *c, UNUSED enum net_scope scope, struct err *e)
{
	return net_ready(n, e);
}

int net_check(UNUSED struct net *n, UNUSED struct call *c, UNUSED const char *pod_id, UNUSED const char *netns_path,
	      UNUSED struct err *e)
{
	return 0;
}

int net_ready(struct net *n, struct err *e)
{
	(void)n;
	return fake.not_ready ? err_set(e, ERR_UNAVAILABLE, "no network is configured") : 0;
}

int image_pull(struct images *im, struct call *c, const struct image_pull_request *r, const char **id, struct err *e)
{
	const struct image_progress p = { 2, 1, 10, 20, "layer" };

	(void)im;
	(void)c;
	(void)e;
	fake.pull = *r;
	if (r->progress)
		r->progress(r->progress_ctx, &p);
	*id = "sha256:1";
	return 0;
}

int image_load(UNUSED struct images *im, UNUSED struct call *c, UNUSED const struct image_load_request *r, const char **id,
	       UNUSED struct err *e)
{
	*id = "sha256:1";
	return 0;
}

int image_content_of(UNUSED struct images *im, UNUSED struct arena *a, const char *name,
		     UNUSED struct image_content *out, struct err *e)
{
	return not_found(e, name);
}

int image_blob_open(UNUSED struct images *im, UNUSED struct arena *a, const char *name, UNUSED const char *digest,
		    UNUSED int *fd, struct err *e)
{
	return not_found(e, name);
}

int image_find(struct images *im, struct arena *a, const char *name, struct image *out, struct err *e)
{
	(void)im;
	(void)a;
	if (!fake.has_image)
		return not_found(e, name);
	*out = fake.image;
	return 0;
}

int image_list(struct images *im, struct arena *a, struct image **out, size_t *n, struct err *e)
{
	(void)im;
	(void)a;
	(void)e;
	*out = &fake.image;
	*n = fake.has_image;
	return 0;
}

int image_remove(struct images *im, struct call *c, const char *name, struct err *e)
{
	(void)im;
	(void)c;
	(void)e;
	fake.removed_image = name;
	return 0;
}

int image_untag(struct images *im, struct call *c, const char *name, bool *last, struct err *e)
{
	(void)im;
	(void)c;
	(void)name;
	(void)e;
	*last = true;
	return 0;
}

int image_tag(struct images *im, const char *id, const char *reference, struct err *e)
{
	(void)im;
	(void)id;
	(void)reference;
	(void)e;
	return 0;
}

int image_config_of(struct images *im, struct arena *a, const char *id, struct image_config *out, struct err *e)
{
	(void)im;
	(void)a;
	(void)id;
	(void)e;
	*out = (struct image_config){ .created = (char *)"now", .user = (char *)"app" };
	return 0;
}

int image_config_text(struct images *im, struct arena *a, const char *id, struct str *out, struct err *e)
{
	(void)im;
	(void)a;
	(void)id;
	(void)e;
	*out = str_of("{\"os\":\"linux\"}");
	return 0;
}

int image_usage_of(struct images *im, struct arena *a, struct image_usage *out, struct err *e)
{
	(void)im;
	(void)a;
	(void)e;
	*out = (struct image_usage){ (char *)"/var", 1000, 10, 12 };
	return 0;
}

/* --- sessions: system tests have them ------------------------------------------------------------------------------ */

int session_exec(UNUSED struct pods *ps, UNUSED struct call *c, const struct session_wish *w, UNUSED struct session *out,
		 struct err *e)
{
	return err_set(e, ERR_NOT_FOUND, "no container %s", w->container);
}

int session_attach(UNUSED struct pods *ps, UNUSED struct call *c, const struct session_wish *w,
		   UNUSED struct session *out, struct err *e)
{
	return err_set(e, ERR_NOT_FOUND, "no container %s", w->container);
}

void session_end(UNUSED struct session *s)
{
}

int session_port(UNUSED struct pods *ps, UNUSED struct call *c, UNUSED enum pod_owner owner, const char *pod_id,
		 UNUSED uint16_t port, UNUSED int *fd, struct err *e)
{
	return err_set(e, ERR_NOT_FOUND, "no pod %s", pod_id);
}

int stream_exec_url(struct streams *s, struct arena *a, const struct session_wish *w, const char **url, struct err *e)
{
	(void)s;
	(void)e;
	fake.wish = *w;
	*url = arena_strdup(a, "http://127.0.0.1:1/exec/t");
	return 0;
}

int stream_attach_url(struct streams *s, struct arena *a, const struct session_wish *w, const char **url, struct err *e)
{
	(void)s;
	(void)e;
	fake.wish = *w;
	*url = arena_strdup(a, "http://127.0.0.1:1/attach/t");
	return 0;
}

int stream_port_url(struct streams *s, struct arena *a, enum pod_owner owner, const struct stream_ports *p,
		    const char **url, struct err *e)
{
	(void)s;
	(void)owner;
	(void)e;
	fake.ports = *p;
	*url = arena_strdup(a, "http://127.0.0.1:1/portforward/t");
	return 0;
}
