#include "image/pull_run.h"

#include "base/clock.h"
#include "base/fs.h"
#include "base/log.h"
#include "base/steps.h"
#include "image/pull_agent.h"
#include "spec/digest.h"
#include "spec/manifest.h"

#include <limits.h>

enum {
	LAYERS_AT_ONCE = 4,
	LAYERS_AT_ONCE_MAX = 16,
	TRIES_MAX = 3,
	CONSEQUENCE_MS = 2000, /* how long a failed unpacking waits for its fetch to say why */
};

enum job_state { JOB_WAITING, JOB_UNDER_WAY, JOB_DONE };

/* One layer: its blob into the content store, its files into a folder. */
struct job {
	const struct descriptor *blob;
	const char *diff_id;       /* NULL: another job unpacks the same layer */
	enum job_state state;
	unsigned tries;
	bool fetching, unpacking;
	bool blob_taken, layer_taken; /* references to give back at the end */
	struct pull_fetching fetch;
	struct layer_work layer;
	struct unpack unpack;
	struct unpack_result result;
};

struct pull {
	const struct pull_work *w;
	struct images *im;
	struct call *call;
	struct arena *a;
	struct pull_agent agent;
	const char *name;          /* the reference, for errors */
	char **documents;          /* blobs taken: index, manifest, config */
	struct descriptor top, manifest;
	struct manifest image;
	struct image_config config;
	struct job *jobs;
	size_t njobs;
	int64_t told_ns;
	uint64_t bytes_total;
	bool no_room;              /* what was fetched is not kept for a next time */
};

/* --- progress --------------------------------------------------------------------------------- */

static void tell_progress(struct pull *p, const char *waits_for)
{
	struct image_progress x = { .layers = (unsigned)p->njobs, .waits_for = waits_for };

	p->told_ns = clock_mono_ns();
	if (!p->w->progress)
		return;
	for (size_t i = 0; i < p->njobs; i++)
		x.layers_done += p->jobs[i].state == JOB_DONE;
	x.bytes_total = p->bytes_total;
	x.bytes = MIN((uint64_t)p->agent.bytes, p->bytes_total);
	p->w->progress(p->w->progress_ctx, &x);
}

/* --- what was given instead of a registry -------------------------------------------------------- */

static const struct image_part *part_of(const struct pull *p, const char *digest)
{
	const struct image_load_request *r = p->w->load;

	for (size_t i = 0; r && i < r->nparts; i++)
		if (streq(r->parts[i].digest, digest))
			return &r->parts[i];
	return NULL;
}

/* From the registry, or from the file that was given. */
static int order(struct pull *p, struct pull_fetching *f, const struct pull_message *what, int file, int pipe, struct err *e)
{
	const struct image_part *part = part_of(p, what->digest);
	struct pull_message m = *what;

	if (!p->w->load)
		return pull_agent_fetch(&p->agent, f, &m, file, pipe, e);
	if (!part)
		return err_set(e, ERR_NOT_FOUND, "%s is named by the manifest and not among what was given", what->digest);
	if (part->size != what->size)
		return err_set(e, ERR_DATA_LOSS, "%s: what was given has %lld bytes, the manifest says %lld", what->digest,
			       (long long)part->size, (long long)what->size);
	m.offset = part->offset;
	return pull_agent_copy(&p->agent, f, &m, file, pipe, part->fd, e);
}

/* --- documents -------------------------------------------------------------------------------- */

static int hear_until(struct pull *p, const bool *done, struct err *e)
{
	while (!*done) {
		if (io_wait(p->call, p->agent.sock, POLLIN, e) < 0 ||
		    pull_agent_hear(&p->agent, p->a, e) < 0)
			return -1;
	}
	return 0;
}

static int fetch_document(struct pull *p, const struct descriptor *d, bool manifest, struct pull_fetching *f,
			  struct err *e)
{
	struct pull_message what = { .digest = d->digest, .media_type = d->media_type, .size = d->size,
				     .manifest = manifest };
	auto_fd int fd = -1;
	uint64_t have;

	if (content_ingest(p->im->content, d->digest, &fd, &have, e) < 0 ||
	    order(p, f, &what, fd, -1, e) < 0 || hear_until(p, &f->ended, e) < 0)
		return -1;
	if (f->ok)
		return 0;
	*e = f->err;
	return -1;
}

/* A small blob, fetched where it is not there; a partial file that turns out wrong is fetched anew. */
static int take_document(struct pull *p, const struct descriptor *d, bool manifest, size_t max,
			 struct str *text, struct err *e)
{
	struct content *store = p->im->content;

	if (d->size > (int64_t)max)
		return err_set(e, ERR_EXHAUSTED, "%s is said to have %lld bytes, more than %zu", d->digest,
			       (long long)d->size, max);
	for (unsigned tries = 1;; tries++) {
		struct pull_fetching f = { .ended = false };
		bool mine = false;

		list_init(&f.link);
		if (content_take(store, p->call, d->digest, &mine, e) < 0)
			return -1;
		if (!mine || fetch_document(p, d, manifest, &f, e) == 0) {
			if (mine && content_commit(store, d->digest, (uint64_t)d->size, e) < 0)
				return -1;
			break;
		}
		list_del(&f.link);
		/* The next to fetch this blob writes into the same file. */
		if (!f.ended)
			pull_agent_stop(&p->agent);
		content_abandon(store, d->digest, f.discard ? CONTENT_DISCARD : CONTENT_KEEP_PARTIAL);
		if (!f.again || tries == TRIES_MAX)
			return -1;
	}
	p->documents = strv_append(p->a, p->documents, d->digest);
	return content_read(store, p->a, d->digest, max, text, e);
}

/* What the name means: the registry's word, or the first of what was given. */
static int find_top(struct pull *p, struct err *e)
{
	const struct image_load_request *r = p->w->load;

	if (r) {
		p->top = (struct descriptor){ .digest = (char *)r->parts[0].digest, .size = r->parts[0].size,
					      .media_type = (char *)r->parts[0].media_type };
		return digest_check(p->top.digest, e);
	}
	tell_progress(p, "the registry");
	if (hear_until(p, &p->agent.resolved, e) < 0)
		return -1;
	p->top = (struct descriptor){ .digest = p->agent.what.digest, .size = p->agent.what.size,
				      .media_type = p->agent.what.media_type };
	return digest_check(p->top.digest, e);
}

/* From the name to the manifest for this machine and its configuration. */
static int resolve(struct pull *p, struct err *e)
{
	const struct descriptor *chosen;
	struct str text;

	if (find_top(p, e) < 0)
		return -1;
	if (take_document(p, &p->top, true, MANIFEST_MAX, &text, e) < 0 ||
	    manifest_parse(p->a, text, p->top.media_type, &p->image, e) < 0)
		return -1;
	p->top.media_type = p->image.media_type;
	p->manifest = p->top;
	if (p->image.kind == MANIFEST_INDEX) {
		if (manifest_choose(p->a, &p->image, platform_host(), &chosen, e) < 0)
			return -1;
		p->manifest = *chosen;
		if (take_document(p, chosen, true, MANIFEST_MAX, &text, e) < 0 ||
		    manifest_parse(p->a, text, chosen->media_type, &p->image, e) < 0)
			return -1;
		if (p->image.kind == MANIFEST_INDEX)
			return err_set(e, ERR_INVALID, "%s: an index within an index", chosen->digest);
		p->manifest.media_type = p->image.media_type;
	}
	if (take_document(p, &p->image.config, false, IMAGE_CONFIG_MAX, &text, e) < 0)
		return -1;
	return image_config_parse(p->a, text, &p->config, e);
}

/* --- layers ----------------------------------------------------------------------------------- */

static int add_job(struct pull *p, const struct descriptor *blob, const char *diff_id, struct err *e)
{
	bool unpacked_elsewhere = false;

	for (size_t i = 0; i < p->njobs; i++) {
		const struct layer_work *seen = &p->jobs[i].layer;

		if (streq(p->jobs[i].blob->digest, blob->digest)) {
			if (streq(seen->diff_id, diff_id))
				return 0;
			return err_set(e, ERR_INVALID, "layer %s has two diff IDs: %s and %s", blob->digest,
				       seen->diff_id, diff_id);
		}
		unpacked_elsewhere = unpacked_elsewhere || streq(seen->diff_id, diff_id);
	}
	p->jobs[p->njobs++] = (struct job){
		.blob = blob, .diff_id = unpacked_elsewhere ? NULL : diff_id,
		.layer = { .diff_id = diff_id, .dir_fd = -1 },
		.fetch = { .ended = true },
	};
	p->bytes_total += (uint64_t)blob->size;
	return 0;
}

static int plan(struct pull *p, struct err *e)
{
	size_t n = strv_len(p->config.diff_ids);

	if (n != p->image.nlayers)
		return err_set(e, ERR_INVALID, "the manifest has %zu layers, the configuration %zu",
			       p->image.nlayers, n);
	if (platform_match(platform_host(), &p->config.platform) == 0)
		return err_set(e, ERR_NOT_FOUND, "the image is made for %s, this machine is %s",
			       platform_text(p->a, &p->config.platform), platform_text(p->a, platform_host()));
	p->jobs = arena_newn0(p->a, struct job, n + 1);
	for (size_t i = 0; i < n; i++) {
		if (add_job(p, &p->image.layers[i], p->config.diff_ids[i], e) < 0)
			return -1;
	}
	return 0;
}

static enum unpack_format format_of(const char *media_type)
{
	if (ends_with(media_type, "gzip"))
		return UNPACK_GZIP;
	if (ends_with(media_type, "zstd"))
		return UNPACK_ZSTD;
	return UNPACK_ANY;
}

static int start_unpacking(struct pull *p, struct job *j, int *pipe, struct err *e)
{
	struct unpack_spec spec = UNPACK_SPEC_INIT;
	auto_fd int blob = -1;
	uint64_t size;

	spec.program = path_join(p->a, p->im->settings.libexec, "knarr-unpack");
	spec.name = j->blob->digest;
	spec.dest_fd = j->layer.dir_fd;
	spec.format = format_of(j->blob->media_type);
	if (!j->fetching) {
		if (content_open_blob(p->im->content, j->blob->digest, &blob, &size, e) < 0)
			return -1;
		spec.source_fd = blob;
	}
	if (unpack_start(&spec, &j->unpack, pipe, e) < 0)
		return -1;
	j->unpacking = true;
	return 0;
}

static int start_fetching(struct pull *p, struct job *j, int pipe, struct err *e)
{
	struct pull_message what = { .digest = j->blob->digest, .media_type = j->blob->media_type,
				     .size = j->blob->size };
	auto_fd int file = -1;
	uint64_t have;

	if (content_ingest(p->im->content, j->blob->digest, &file, &have, e) < 0)
		return -1;
	return order(p, &j->fetch, &what, file, pipe, e);
}

/* Takes blob and layer, as far as no other pull is making them; 1: one does. With the real call it
 * waits for the other; then nothing of ours may be in the making, or two could wait for each other. */
static int take(struct pull *p, struct job *j, struct call *call, struct err *e)
{
	bool mine;

	if (content_take(p->im->content, call, j->blob->digest, &mine, e) < 0)
		return call == p->call || e->kind != ERR_TIMEOUT ? -1 : 1;
	if (j->diff_id && layer_take(p->im->layers, call, j->diff_id, &j->layer, e) < 0) {
		if (mine)
			content_abandon(p->im->content, j->blob->digest, CONTENT_KEEP_PARTIAL);
		else
			content_release(p->im->content, j->blob->digest);
		return call == p->call || e->kind != ERR_TIMEOUT ? -1 : 1;
	}
	j->fetching = mine;
	j->blob_taken = !mine;
	j->layer_taken = j->diff_id && !j->layer.mine;
	return 0;
}

/* Gives up what is in the making of a job. knarr-pull no longer writes for it, or is gone. */
static void drop(struct pull *p, struct job *j)
{
	if (j->unpacking)
		unpack_kill(&j->unpack);
	j->unpacking = false;
	if (j->layer.mine)
		layer_abandon(p->im->layers, &j->layer);
	j->layer.mine = false;
	if (j->fetching)
		content_abandon(p->im->content, j->blob->digest,
				j->fetch.discard || p->no_room ? CONTENT_DISCARD : CONTENT_KEEP_PARTIAL);
	j->fetching = false;
	if (j->blob_taken)
		content_release(p->im->content, j->blob->digest);
	if (j->layer_taken)
		layer_release(p->im->layers, j->diff_id);
	j->blob_taken = j->layer_taken = false;
	j->state = JOB_WAITING;
}

static int start(struct pull *p, struct job *j, struct call *call, struct err *e)
{
	auto_fd int pipe = -1;
	int r = take(p, j, call, e);

	if (r != 0)
		return r;
	j->state = JOB_UNDER_WAY;
	j->tries++;
	j->fetch.ended = !j->fetching;
	if (j->layer.mine && start_unpacking(p, j, &pipe, e) < 0)
		return -1;
	if (j->fetching && start_fetching(p, j, pipe, e) < 0)
		return -1;
	return 0;
}

/* The blob is whole: it is there for others from now on. */
static int end_fetch(struct pull *p, struct job *j, struct err *e)
{
	if (steps_point("pull", "blob", e) < 0)
		return -1;
	j->fetching = false;
	if (content_commit(p->im->content, j->blob->digest, (uint64_t)j->blob->size, e) < 0)
		return -1;
	j->blob_taken = true;
	return 0;
}

/* Its unpacker says that the layer is cut short where the fetch failed: the fetch's word counts. */
static int wait_for_cause(struct pull *p, struct job *j, struct err *e)
{
	int64_t until = clock_mono_ns() + CONSEQUENCE_MS * NS_PER_MS;
	struct err ignored;

	while (!j->fetch.ended) {
		int64_t left_ms = (until - clock_mono_ns()) / NS_PER_MS;
		struct pollfd sock = { p->agent.sock, POLLIN, 0 };

		if (left_ms <= 0 || io_poll(p->call, &sock, 1, (int)left_ms, &ignored) <= 0 ||
		    pull_agent_hear(&p->agent, p->a, &ignored) < 0)
			return -1;
	}
	if (!j->fetch.ok)
		*e = j->fetch.err;
	return -1;
}

static int end_unpack(struct pull *p, struct job *j, struct err *e)
{
	int r = unpack_wait(p->call, &j->unpack, j->layer.dir_fd, p->a, &j->result, e);

	j->unpacking = false;
	if (r < 0)
		return j->fetching ? wait_for_cause(p, j, e) : err_in(e, "layer %s", j->blob->digest);
	return 0;
}

/* 1: start it afresh. */
static int failed(struct pull *p, struct job *j, struct err *e)
{
	if (!j->fetching || !j->fetch.ended || j->fetch.ok || !j->fetch.again || j->tries >= TRIES_MAX)
		return -1;
	log_warn("layer fetched afresh image=%s layer=%s error=\"%s\"", p->name, j->blob->digest, e->msg);
	drop(p, j);
	return 1;
}

/* The blob first: what is unpacked counts only once its bytes were verified. */
static int advance(struct pull *p, struct job *j, bool unpack_ended, struct err *e)
{
	if (unpack_ended && end_unpack(p, j, e) < 0)
		return failed(p, j, e);
	if (j->fetching && j->fetch.ended) {
		if (!j->fetch.ok) {
			*e = j->fetch.err;
			return failed(p, j, e);
		}
		if (end_fetch(p, j, e) < 0)
			return -1;
	}
	if (j->fetching || j->unpacking)
		return 0;
	if (j->layer.mine) {
		if (steps_point("pull", "layer", e) < 0)
			return -1;
		j->layer.mine = false;
		if (layer_commit(p->im->layers, &j->layer, &j->result, e) < 0)
			return err_in(e, "layer %s", j->blob->digest);
		j->layer_taken = true;
	}
	j->state = JOB_DONE;
	tell_progress(p, "layers");
	return 0;
}

struct polled {
	struct pollfd fds[2 * LAYERS_AT_ONCE_MAX + 1];
	struct job *jobs[2 * LAYERS_AT_ONCE_MAX + 1];
	size_t n;
};

static void poll_for(struct polled *x, struct job *j, int fd)
{
	x->jobs[x->n] = j;
	x->fds[x->n++] = (struct pollfd){ fd, POLLIN, 0 };
}

/* Waits until something happens to what is under way, and lets it go on. */
static int step(struct pull *p, struct err *e)
{
	enum { TICK_MS = 500 };
	struct polled x = { .n = 0 };

	poll_for(&x, NULL, p->agent.sock);
	for (size_t i = 0; i < p->njobs; i++) {
		struct job *j = &p->jobs[i];

		if (j->state != JOB_UNDER_WAY || !j->unpacking)
			continue;
		poll_for(&x, j, j->unpack.proc.pidfd);
		poll_for(&x, j, j->unpack.result_fd);
	}
	if (io_poll(p->call, x.fds, x.n, TICK_MS, e) < 0)
		return -1;
	if (x.fds[0].revents && pull_agent_hear(&p->agent, p->a, e) < 0)
		return -1;
	for (size_t i = 1; i < x.n; i++) {
		if (x.fds[i].revents && x.jobs[i]->unpacking && advance(p, x.jobs[i], true, e) < 0)
			return -1;
	}
	for (size_t i = 0; i < p->njobs; i++) {
		if (p->jobs[i].state == JOB_UNDER_WAY && advance(p, &p->jobs[i], false, e) < 0)
			return -1;
	}
	if (clock_mono_ns() - p->told_ns > TICK_MS * NS_PER_MS)
		tell_progress(p, "layers");
	return 0;
}

static size_t count(const struct pull *p, enum job_state state)
{
	size_t n = 0;

	for (size_t i = 0; i < p->njobs; i++)
		n += p->jobs[i].state == state;
	return n;
}

/* Starts what no other pull is making, up to the limit. */
static int start_free(struct pull *p, struct call *over, size_t limit, struct err *e)
{
	size_t under_way = count(p, JOB_UNDER_WAY);

	for (size_t i = 0; i < p->njobs && under_way < limit; i++) {
		if (p->jobs[i].state != JOB_WAITING)
			continue;
		if (start(p, &p->jobs[i], over, e) < 0 || call_check(p->call, e) < 0)
			return -1;
		if (p->jobs[i].state == JOB_UNDER_WAY && advance(p, &p->jobs[i], false, e) < 0)
			return -1;
		under_way += p->jobs[i].state == JOB_UNDER_WAY;
	}
	return 0;
}

static struct job *first_waiting(struct pull *p)
{
	for (size_t i = 0; i < p->njobs; i++) {
		if (p->jobs[i].state == JOB_WAITING)
			return &p->jobs[i];
	}
	return NULL;
}

static int pull_layers(struct pull *p, struct err *e)
{
	unsigned wanted = p->im->settings.parallel_layers;
	size_t limit = wanted ? MIN(wanted, (unsigned)LAYERS_AT_ONCE_MAX) : LAYERS_AT_ONCE;
	auto_call over;

	/* A call past its deadline takes what is free and never waits. */
	call_begin(&over, 1);
	tell_progress(p, "layers");
	while (count(p, JOB_DONE) < p->njobs) {
		struct job *j;

		if (start_free(p, &over, limit, e) < 0)
			return -1;
		if (count(p, JOB_UNDER_WAY) > 0) {
			if (step(p, e) < 0)
				return -1;
			continue;
		}
		j = first_waiting(p);
		if (!j)
			continue;
		tell_progress(p, "another pull");
		if (start(p, j, p->call, e) < 0 || advance(p, j, false, e) < 0)
			return -1;
	}
	return 0;
}

/* --- the whole -------------------------------------------------------------------------------- */

static char **add_names(struct pull *p, char **refs, const struct ref *ref)
{
	if (ref->tag)
		refs = strv_append(p->a, refs, ref_text(p->a, ref));
	return strv_append(p->a, refs, ref_with_digest(p->a, ref, p->top.digest));
}

static char **names_of(struct pull *p)
{
	char **refs = arena_newn0(p->a, char *, 1);
	struct err never; /* image_load() has parsed them */
	struct ref ref;

	if (p->w->ref)
		return add_names(p, refs, p->w->ref);
	for (char *const *n = p->w->load->names; n && *n; n++)
		if (ref_parse(p->a, *n, &ref, &never) == 0)
			refs = add_names(p, refs, &ref);
	return refs;
}

static int commit(struct pull *p, struct err *e)
{
	struct image_record r = {
		.version = 1, .manifest = p->manifest.digest, .media_type = p->manifest.media_type,
		.manifest_size = (uint64_t)p->manifest.size, .layers = p->config.diff_ids,
		.user = p->config.user, .labels = p->config.labels,
	};
	char **refs;

	for (size_t i = 0; i < p->image.nlayers; i++)
		r.blobs = strv_append(p->a, r.blobs, p->image.layers[i].digest);
	if (!streq(p->top.digest, p->manifest.digest))
		r.extra = strv_append(p->a, r.extra, p->top.digest);
	refs = names_of(p);
	tell_progress(p, "the disk");
	if (steps_point("pull", "image", e) < 0)
		return -1;
	return images_commit(p->im, p->call, p->image.config.digest, &r, refs, e);
}

static void give_back(struct pull *p)
{
	/* First knarr-pull, which writes into what is abandoned below. */
	pull_agent_stop(&p->agent);
	for (size_t i = 0; i < p->njobs; i++)
		drop(p, &p->jobs[i]);
	for (char **d = p->documents; d && *d; d++)
		content_release(p->im->content, *d);
}

static char **split_dirs(struct arena *a, const char *dirs)
{
	struct str rest = str_of(dirs ? dirs : "");
	char **v = NULL;

	while (rest.p) {
		struct str dir = str_cut(&rest, ':');

		if (dir.len)
			v = strv_append(a, v, str_dup(a, dir));
	}
	return v;
}

static int start_agent(struct pull *p, struct err *e)
{
	const struct image_settings *s = &p->im->settings;
	const struct image_auth *k = p->w->auth;
	struct pull_message m = {
		.type = (char *)"start", .reference = p->w->ref ? (char *)p->name : NULL,
		.hosts_dirs = split_dirs(p->a, s->hosts_dir),
		.registries_conf = (char *)s->registries_conf, .certs_dirs = (char **)s->certs_dirs,
		.parallel = s->parallel_layers, .idle_ms = s->pull_idle_ns / NS_PER_MS,
		.username = (char *)k->username, .password = (char *)k->password, .auth = (char *)k->auth,
		.server_address = (char *)k->server_address, .identity_token = (char *)k->identity_token,
		.registry_token = (char *)k->registry_token,
	};

	return pull_agent_start(&p->agent, path_join(p->a, s->libexec, "knarr-pull"), &m, e);
}

int pull_run(const struct pull_work *w, char **id, struct err *e)
{
	struct pull p = { .w = w, .im = w->im, .call = w->call, .a = &w->call->arena,
			  .agent = { .sock = -1 }, .name = w->ref ? ref_text(&w->call->arena, w->ref) : "given files" };
	int r = -1;

	if (start_agent(&p, e) == 0 && steps_point("pull", "resolve", e) == 0 && resolve(&p, e) == 0 &&
	    plan(&p, e) == 0 && pull_layers(&p, e) == 0 &&
	    commit(&p, e) == 0)
		r = 0;
	p.no_room = r < 0 && e->kind == ERR_EXHAUSTED;
	give_back(&p);
	if (r < 0)
		return w->ref ? err_in(e, "pull %s", p.name) : -1;
	*id = p.image.config.digest;
	return 0;
}
