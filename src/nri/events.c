/* The moments of pods and containers, told to every plugin that wants to hear of them. */
#include "nri/parts.h"

#include "base/clock.h"
#include "base/log.h"
#include "wire/rpc.h"

/* All requests with a pod begin like the first, all with a container like the second. */
struct pod_request {
	ProtobufCMessage base;
	NRI_T(PodSandbox) *pod;
};
struct container_request {
	ProtobufCMessage base;
	NRI_T(PodSandbox) *pod;
	NRI_T(Container) *container;
};

#define MOMENT(m, name, type)                                                         \
	[m] = { #name, &NRI_D(type##_request), &NRI_D(type##_response) }
static const struct {
	const char *method;
	const ProtobufCMessageDescriptor *request, *response;
} moments[] = {
	MOMENT(POD_MOMENT_RUN, RunPodSandbox, run_pod_sandbox),
	MOMENT(POD_MOMENT_STOPPED, StopPodSandbox, stop_pod_sandbox),
	MOMENT(POD_MOMENT_REMOVE, RemovePodSandbox, remove_pod_sandbox),
	MOMENT(POD_MOMENT_UPDATE, UpdatePodSandbox, update_pod_sandbox),
	MOMENT(POD_MOMENT_UPDATED, PostUpdatePodSandbox, post_update_pod_sandbox),
	MOMENT(CONTAINER_MOMENT_CREATE, CreateContainer, create_container),
	MOMENT(CONTAINER_MOMENT_CREATED, PostCreateContainer, post_create_container),
	MOMENT(CONTAINER_MOMENT_START, StartContainer, start_container),
	MOMENT(CONTAINER_MOMENT_STARTED, PostStartContainer, post_start_container),
	MOMENT(CONTAINER_MOMENT_UPDATE, UpdateContainer, update_container),
	MOMENT(CONTAINER_MOMENT_UPDATED, PostUpdateContainer, post_update_container),
	MOMENT(CONTAINER_MOMENT_STOPPED, StopContainer, stop_container),
	MOMENT(CONTAINER_MOMENT_REMOVE, RemoveContainer, remove_container),
};
enum { VALIDATE = 14 };

/* --- asking ------------------------------------------------------------------------------------------------------ */

/* What plugins made before NRI 0.11 know instead. */
static int ask_state_change(struct plugin *p, struct arena *a, enum pod_moment m, NRI_T(PodSandbox) *pod,
			    NRI_T(Container) *container, struct err *e)
{
	NRI_T(StateChangeEvent) *r = NRI_NEW(a, state_change_event);
	const struct plugin_question q = { "StateChange", &r->base, &NRI_D(empty) };
	ProtobufCMessage *ignored;

	r->event = (NRI_T(Event))m;
	r->pod = pod;
	r->container = container;
	return plugin_ask(p, a, &q, &ignored, e);
}

static bool has_answer(enum pod_moment m)
{
	return m == CONTAINER_MOMENT_CREATE || m == CONTAINER_MOMENT_UPDATE || m == CONTAINER_MOMENT_STOPPED;
}

/* As plugin_ask(), in turn. */
static int ask(struct plugin *p, struct arena *a, enum pod_moment m, struct container_request *r, ProtobufCMessage **out,
	       struct err *e)
{
	const struct plugin_question q = { moments[m].method, &r->base, moments[m].response };
	bool container = q.request->descriptor->n_fields > 1 && m != POD_MOMENT_UPDATE;
	int rc;

	plugin_turn_take(p);
	rc = p->old ? -1 : plugin_ask(p, a, &q, out, e);
	if (!has_answer(m) && rc < 0 && (p->old || e->kind == ERR_UNIMPLEMENTED)) {
		p->old = true;
		rc = ask_state_change(p, a, m, r->pod, container ? r->container : NULL, e);
	} else if (rc < 0 && p->old) {
		rc = plugin_ask(p, a, &q, out, e);
	}
	plugin_turn_give(p);
	return rc;
}

/* --- other containers ------------------------------------------------------------------------------------------------- */

static int update_other(struct plugin *p, struct call *c, const NRI_T(ContainerUpdate) *u, struct err *e)
{
	struct oci_resources r = { 0 };

	if (!u->linux || !u->linux->resources)
		return 0;
	if (adjust_resources(&c->arena, NULL, p->title, "", u->linux->resources, &r, e) < 0)
		return -1;
	return pods_update_by_plugin(p->nri->pods, c, u->container_id, &r, e);
}

int nri_update_others(struct plugin *p, struct arena *a, const struct updates *wished, struct updates *failed,
		      struct err *e)
{
	int rc = 0;

	if (failed)
		failed->v = NRI_NEWV(a, wished->n);
	for (size_t i = 0; i < wished->n; i++) {
		auto_call c;
		struct err why;

		call_begin(&c, clock_mono_ns() + p->nri->settings.request_ns);
		if (update_other(p, &c, wished->v[i], &why) == 0)
			continue;
		log_warn("an NRI plugin's update cannot be made plugin=%s: %s", p->title, why.msg);
		if (failed) {
			failed->v[failed->n++] = wished->v[i];
		} else if (!wished->v[i]->ignore_failure && rc == 0) {
			*e = why;
			rc = -1;
		}
	}
	return rc;
}

/* --- pods ------------------------------------------------------------------------------------------------------------- */

static enum plugin_knowledge knowledge_after(enum pod_moment m)
{
	return m == POD_MOMENT_REMOVE || m == CONTAINER_MOMENT_REMOVE ? PLUGINS_GONE : PLUGINS_TOLD;
}

static bool any_wants(const struct plugins *v, unsigned event)
{
	for (size_t i = 0; i < v->n; i++)
		if (plugin_wants(v->v[i], event))
			return true;
	return false;
}

static int on_pod(void *ctx, enum pod_moment m, const struct pod_view *p, const struct config_resources *overhead,
		  const struct config_resources *resources, struct err *e)
{
	struct nri *n = ctx;
	auto_arena a = { 0 };
	auto_plugins to = { 0 };
	struct pod_request *r;
	ProtobufCMessage *ignored;

	lock_acquire(&n->lock);
	(void)pod_knowledge_set(p, knowledge_after(m));
	to = nri_plugins_locked(n, &a);
	lock_release(&n->lock);
	if (!any_wants(&to, m))
		return 0;
	r = nri_message_new(&a, moments[m].request);
	r->pod = describe_pod(&a, p);
	if (m == POD_MOMENT_UPDATE) {
		NRI_T(UpdatePodSandboxRequest) *u = (NRI_T(UpdatePodSandboxRequest) *)r;

		u->overhead_linux_resources = overhead ? describe_wished(&a, overhead) : NULL;
		u->linux_resources = resources ? describe_wished(&a, resources) : NULL;
	}
	for (size_t i = 0; i < to.n; i++)
		if (plugin_wants(to.v[i], m) && ask(to.v[i], &a, m, (struct container_request *)r, &ignored, e) < 0)
			return -1;
	return 0;
}

/* --- containers --------------------------------------------------------------------------------------------------------- */

static struct plugins plugins_for(struct nri *n, struct arena *a, enum pod_moment m, const struct container_view *k)
{
	LOCKED(&n->lock);

	(void)container_knowledge_set(k, knowledge_after(m));
	return nri_plugins_locked(n, a);
}

static int on_container(void *ctx, enum pod_moment m, const struct pod_view *p, const struct container_view *k,
			struct err *e)
{
	auto_arena a = { 0 };
	auto_plugins to = plugins_for(ctx, &a, m, k);
	struct container_request *r;
	ProtobufCMessage *answer;

	if (!any_wants(&to, m))
		return 0;
	r = nri_message_new(&a, moments[m].request);
	r->pod = describe_pod(&a, p);
	r->container = describe_existing(&a, k);
	for (size_t i = 0; i < to.n; i++) {
		int rc = plugin_wants(to.v[i], m) ? ask(to.v[i], &a, m, r, &answer, e) : 1;

		if (rc < 0)
			return -1;
		if (rc == 0 && m == CONTAINER_MOMENT_STOPPED) {
			const NRI_T(StopContainerResponse) *s = (NRI_T(StopContainerResponse) *)answer;
			const struct updates wished = { s->n_update, s->update };

			if (nri_update_others(to.v[i], &a, &wished, NULL, e) < 0)
				return -1;
		}
	}
	return 0;
}

/* What all plugins have wished of a container that is being created. */
struct wishes {
	struct arena *a;
	struct claims claims;
	struct adjuster adjuster;
	size_t n;
	struct one_wish {
		struct plugin *plugin;
		const NRI_T(ContainerAdjustment) *adjust;
		struct updates updates;
	} *v;
};

static void claims_free(struct wishes *w)
{
	map_free(&w->claims.map);
}

/* Conflicts are found before anything is changed. */
static int claim_updates(struct wishes *w, const struct plugin *p, const char *own_id, const struct updates *u,
			 struct err *e)
{
	for (size_t i = 0; i < u->n; i++) {
		struct oci_resources scratch = { 0 };
		const NRI_T(ContainerUpdate) *one = u->v[i];

		if (own_id && streq(one->container_id, own_id))
			return err_set(e, ERR_INVALID, "NRI plugin %s asks for an update of container %s while it is created",
				       p->title, own_id);
		if (one->linux && one->linux->resources &&
		    adjust_resources(w->a, &w->claims, p->title, arena_printf(w->a, "container %s ", one->container_id),
				     one->linux->resources, &scratch, e) < 0 && !one->ignore_failure)
			return -1;
	}
	return 0;
}

static int ask_create(struct wishes *w, struct plugin *p, const struct pod_view *pod, const struct container_view *k,
		      struct err *e)
{
	struct container_request *r = nri_message_new(w->a, &NRI_D(create_container_request));
	const NRI_T(CreateContainerResponse) *c;
	ProtobufCMessage *answer;
	struct one_wish *mine = &w->v[w->n];
	int rc;

	r->pod = describe_pod(w->a, pod);
	r->container = describe_container(w->a, k, w->adjuster.config);
	rc = ask(p, w->a, CONTAINER_MOMENT_CREATE, r, &answer, e);
	if (rc != 0)
		return rc < 0 ? -1 : 0;
	c = (NRI_T(CreateContainerResponse) *)answer;
	if (c->n_evict > 0)
		return err_set(e, ERR_UNIMPLEMENTED, "NRI plugin %s: eviction of container %s: knarrd has no evictions", p->title,
			       c->evict[0]->container_id);
	*mine = (struct one_wish){ p, c->adjust, { c->n_update, c->update } };
	w->adjuster.plugin = p->title;
	if (c->adjust && adjust_apply(&w->adjuster, c->adjust, e) < 0)
		return -1;
	if (claim_updates(w, p, k->id, &mine->updates, e) < 0)
		return -1;
	w->n++;
	return 0;
}

/* --- validation ----------------------------------------------------------------------------------------------------------- */

static const struct {
	const char *what;
	NRI_T(Field) field;
	bool compound;
} fields[] = {
#define FIELD(what, name, compound) { what, NRI__PKG__API__V1ALPHA1__FIELD__##name, compound }
	FIELD("annotation ", Annotations, true), FIELD("mount ", Mounts, true), FIELD("device ", Devices, true),
	FIELD("CDI device ", CdiDevices, true), FIELD("environment variable ", Env, true), FIELD("arguments", Args, false),
	FIELD("memory.limit", MemLimit, false), FIELD("memory.reservation", MemReservation, false),
	FIELD("memory.swap", MemSwapLimit, false), FIELD("memory.kernel", MemKernelLimit, false),
	FIELD("memory.kernel_tcp", MemTCPLimit, false), FIELD("memory.swappiness", MemSwappiness, false),
	FIELD("memory.disable_oom_killer", MemDisableOomKiller, false),
	FIELD("memory.use_hierarchy", MemUseHierarchy, false), FIELD("cpu.shares", CPUShares, false),
	FIELD("cpu.quota", CPUQuota, false), FIELD("cpu.period", CPUPeriod, false),
	FIELD("cpu.realtime_runtime", CPURealtimeRuntime, false), FIELD("cpu.realtime_period", CPURealtimePeriod, false),
	FIELD("cpu.cpus", CPUSetCPUs, false), FIELD("cpu.mems", CPUSetMems, false), FIELD("pids.limit", PidsLimit, false),
	FIELD("huge pages of ", HugepageLimits, true), FIELD("cgroup file ", CgroupsUnified, true),
	FIELD("the cgroups path", CgroupsPath, false), FIELD("the OOM score", OomScoreAdj, false),
	FIELD("rlimit ", Rlimits, true), FIELD("the I/O priority", IoPriority, false),
	FIELD("the seccomp policy", SeccompPolicy, false), FIELD("namespace ", Namespace, true),
	FIELD("sysctl ", Sysctl, true), FIELD("network device ", LinuxNetDevices, true),
	FIELD("the scheduler", LinuxSched, false), FIELD("RDT class of service", RdtClosID, false),
	FIELD("RDT schemata", RdtSchemata, false), FIELD("RDT monitoring", RdtEnableMonitoring, false),
	FIELD("the memory policy", MemoryPolicy, false),
#undef FIELD
};

struct claimed {                     /* adjust.c's */
	const char *key, *plugin;
};

static NRI_T(CompoundFieldOwners) *compound_of(struct arena *a, NRI_T(FieldOwners) *o, int32_t field, size_t most)
{
	NRI_T(FieldOwners__CompoundEntry) *entry;

	for (size_t i = 0; i < o->n_compound; i++)
		if (o->compound[i]->key == field)
			return o->compound[i]->value;
	entry = NRI_NEW(a, field_owners__compound_entry);
	entry->key = field;
	entry->value = NRI_NEW(a, compound_field_owners);
	entry->value->owners = NRI_NEWV(a, most);
	o->compound[o->n_compound++] = entry;
	return entry->value;
}

static void add_owner(struct arena *a, NRI_T(FieldOwners) *o, const struct claimed *c, size_t most)
{
	for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
		if (fields[i].compound && starts_with(c->key, fields[i].what)) {
			NRI_T(CompoundFieldOwners) *all = compound_of(a, o, (int32_t)fields[i].field, most);
			NRI_T(CompoundFieldOwners__OwnersEntry) *entry = NRI_NEW(a, compound_field_owners__owners_entry);

			entry->key = (char *)c->key + strlen(fields[i].what);
			entry->value = (char *)c->plugin;
			all->owners[all->n_owners++] = entry;
			return;
		}
		if (!fields[i].compound && streq(c->key, fields[i].what)) {
			NRI_T(FieldOwners__SimpleEntry) *entry = NRI_NEW(a, field_owners__simple_entry);

			entry->key = (int32_t)fields[i].field;
			entry->value = (char *)c->plugin;
			o->simple[o->n_simple++] = entry;
			return;
		}
	}
}

static NRI_T(OwningPlugins) *owners_of(struct wishes *w, const char *id)
{
	NRI_T(OwningPlugins) *all = NRI_NEW(w->a, owning_plugins);
	NRI_T(OwningPlugins__OwnersEntry) *entry = NRI_NEW(w->a, owning_plugins__owners_entry);
	size_t most = w->claims.map.count;
	const struct claimed *c;

	entry->key = (char *)id;
	entry->value = NRI_NEW(w->a, field_owners);
	entry->value->simple = NRI_NEWV(w->a, most);
	entry->value->compound = NRI_NEWV(w->a, most);
	for (size_t i = 0; (c = map_next(&w->claims.map, &i));)
		add_owner(w->a, entry->value, c, most);
	all->owners = NRI_NEWV(w->a, 1);
	all->owners[all->n_owners++] = entry;
	return all;
}

/* All adjustments as one: protobuf's messages are merged by putting their bytes one behind the other. */
static int merged(struct wishes *w, NRI_T(ContainerAdjustment) **out, struct err *e)
{
	size_t size = 0, at = 0;
	char *bytes;

	for (size_t i = 0; i < w->n; i++)
		if (w->v[i].adjust)
			size += protobuf_c_message_get_packed_size(&w->v[i].adjust->base);
	bytes = arena_alloc(w->a, size + 1);
	for (size_t i = 0; i < w->n; i++)
		if (w->v[i].adjust)
			at += protobuf_c_message_pack(&w->v[i].adjust->base, (uint8_t *)bytes + at);
	return rpc_unpack(w->a, &NRI_D(container_adjustment), (struct str){ bytes, size }, (ProtobufCMessage **)out, e);
}

static int validate(struct wishes *w, const struct plugins *to, const struct pod_view *pod, NRI_T(Container) *pristine,
		    struct err *e)
{
	NRI_T(ValidateContainerAdjustmentRequest) *r = NRI_NEW(w->a, validate_container_adjustment_request);
	const struct plugin_question q = { "ValidateContainerAdjustment", &r->base,
					   &NRI_D(validate_container_adjustment_response) };
	size_t nupdates = 0;

	for (size_t i = 0; i < w->n; i++)
		nupdates += w->v[i].updates.n;
	r->update = NRI_NEWV(w->a, nupdates);
	r->plugins = NRI_NEWV(w->a, w->n);
	for (size_t i = 0; i < w->n; i++) {
		for (size_t j = 0; j < w->v[i].updates.n; j++)
			r->update[r->n_update++] = w->v[i].updates.v[j];
		r->plugins[i] = NRI_NEW(w->a, plugin_instance);
		r->plugins[i]->name = w->v[i].plugin->name;
		r->plugins[i]->index = w->v[i].plugin->idx;
	}
	r->n_plugins = w->n;
	r->pod = describe_pod(w->a, pod);
	r->container = pristine;
	r->owners = owners_of(w, pristine->id);
	if (merged(w, &r->adjust, e) < 0)
		return -1;
	for (size_t i = 0; i < to->n; i++) {
		NRI_T(ValidateContainerAdjustmentResponse) *answer;
		int rc;

		if (!plugin_wants(to->v[i], VALIDATE))
			continue;
		plugin_turn_take(to->v[i]);
		rc = plugin_ask(to->v[i], w->a, &q, (ProtobufCMessage **)&answer, e);
		plugin_turn_give(to->v[i]);
		if (rc < 0)
			return -1;
		/* As in NRI's own library: who guards must be heard. */
		if (rc > 0)
			return err_set(e, ERR_UNAVAILABLE, "NRI plugin %s validates adjustments and did not answer", to->v[i]->title);
		if (answer->reject)
			return err_set(e, ERR_DENIED, "NRI plugin %s rejects the adjustments: %s", to->v[i]->title, answer->reason);
	}
	return 0;
}

static int ask_all(struct wishes *w, const struct plugins *to, const struct pod_view *p, const struct container_view *k,
		   struct err *e)
{
	NRI_T(Container) *pristine = any_wants(to, VALIDATE) ? describe_container(w->a, k, w->adjuster.config) : NULL;

	for (size_t i = 0; i < to->n; i++)
		if (plugin_wants(to->v[i], CONTAINER_MOMENT_CREATE) && ask_create(w, to->v[i], p, k, e) < 0)
			return -1;
	if (pristine && validate(w, to, p, pristine, e) < 0)
		return -1;
	for (size_t i = 0; i < w->n; i++)
		if (nri_update_others(w->v[i].plugin, w->a, &w->v[i].updates, NULL, e) < 0)
			return err_in(e, "NRI plugin %s", w->v[i].plugin->title);
	return 0;
}

static int on_adjust(void *ctx, struct arena *a, const struct pod_view *p, const struct container_view *k,
		     struct pod_adjustment *io, struct err *e)
{
	auto_plugins to = plugins_for(ctx, a, CONTAINER_MOMENT_CREATE, k);
	struct wishes *w;
	int rc;

	if (!any_wants(&to, CONTAINER_MOMENT_CREATE) && !any_wants(&to, VALIDATE))
		return 0;
	w = arena_new0(a, struct wishes);
	w->a = w->claims.a = a;
	w->v = arena_newn0(a, struct one_wish, to.n + 1);
	w->adjuster = (struct adjuster){ .a = a, .claims = &w->claims, .config = io->config };
	rc = ask_all(w, &to, p, k, e);
	claims_free(w);
	if (rc < 0)
		return -1;
	io->cdi_devices = w->adjuster.cdi_devices;
	io->wishes = w;
	return 0;
}

static int on_readjust(UNUSED void *ctx, struct arena *a, const struct pod_adjustment *wishes, struct oci_config *config,
		       struct err *e)
{
	const struct wishes *w = wishes->wishes;
	struct adjuster again = { .a = a, .config = config };

	for (size_t i = 0; i < w->n; i++) {
		again.plugin = "that was asked";
		if (w->v[i].adjust && adjust_apply(&again, w->v[i].adjust, e) < 0)
			return -1;
	}
	return 0;
}

/* --- updates ---------------------------------------------------------------------------------------------- */

static int take_update(struct wishes *w, struct plugin *p, const struct container_view *k, struct oci_resources *r,
		       const NRI_T(UpdateContainerResponse) *answer, struct err *e)
{
	struct updates *others = &w->v[w->n].updates;

	if (answer->n_evict > 0)
		return err_set(e, ERR_UNIMPLEMENTED, "NRI plugin %s: eviction of container %s: knarrd has no evictions", p->title,
			       answer->evict[0]->container_id);
	*others = (struct updates){ 0, NRI_NEWV(w->a, answer->n_update) };
	for (size_t i = 0; i < answer->n_update; i++) {
		NRI_T(ContainerUpdate) *u = answer->update[i];

		if (!streq(u->container_id, k->id))
			others->v[others->n++] = u;
		else if (u->linux && u->linux->resources &&
			 adjust_resources(w->a, &w->claims, p->title, "", u->linux->resources, r, e) < 0 &&
			 !u->ignore_failure)
			return -1;
	}
	w->v[w->n++].plugin = p;
	return claim_updates(w, p, NULL, others, e);
}

static int ask_update(struct wishes *w, const struct plugins *to, const struct pod_view *p,
		      const struct container_view *k, struct oci_resources *r, struct err *e)
{
	NRI_T(UpdateContainerRequest) *u = NRI_NEW(w->a, update_container_request);

	u->pod = describe_pod(w->a, p);
	u->container = describe_existing(w->a, k);
	for (size_t i = 0; i < to->n; i++) {
		ProtobufCMessage *answer;
		int rc;

		if (!plugin_wants(to->v[i], CONTAINER_MOMENT_UPDATE))
			continue;
		u->linux_resources = describe_resources(w->a, r);
		rc = ask(to->v[i], w->a, CONTAINER_MOMENT_UPDATE, (struct container_request *)u, &answer, e);
		if (rc < 0 || (rc == 0 && take_update(w, to->v[i], k, r, (NRI_T(UpdateContainerResponse) *)answer, e) < 0))
			return -1;
	}
	for (size_t i = 0; i < w->n; i++)
		if (nri_update_others(w->v[i].plugin, w->a, &w->v[i].updates, NULL, e) < 0)
			return err_in(e, "NRI plugin %s", w->v[i].plugin->title);
	return 0;
}

static int on_update(void *ctx, struct arena *a, const struct pod_view *p, const struct container_view *k,
		     struct oci_resources *r, struct err *e)
{
	auto_plugins to = plugins_for(ctx, a, CONTAINER_MOMENT_UPDATE, k);
	struct wishes w = { .a = a, .claims.a = a };
	int rc;

	if (!any_wants(&to, CONTAINER_MOMENT_UPDATE))
		return 0;
	w.v = arena_newn0(a, struct one_wish, to.n + 1);
	rc = ask_update(&w, &to, p, k, r, e);
	claims_free(&w);
	return rc;
}

static bool on_idle(void *ctx)
{
	struct nri *n = ctx;
	LOCKED(&n->lock);

	return n->active == 0;
}

void nri_hooks_set(struct nri *n)
{
	n->hooks = (struct pod_plugins){ .ctx = n, .idle = on_idle, .pod = on_pod, .container = on_container,
					 .adjust = on_adjust, .readjust = on_readjust, .update = on_update };
}
