#include "nri/parts.h"

#include "base/fs.h"
#include "base/log.h"
#include "base/mem.h"

#include <fcntl.h>
#include <unistd.h>

void *nri_message_new(struct arena *a, const ProtobufCMessageDescriptor *type)
{
	void *m = arena_alloc0(a, type->sizeof_message);

	protobuf_c_message_init(type, m);
	return m;
}

struct plugins nri_plugins_locked(struct nri *n, struct arena *a)
{
	struct plugins out = { 0, arena_newn0(a, struct plugin *, n->active + 1) };

	lock_assert_held(&n->lock);
	list_for_each(p, &n->plugins, struct plugin, in_plugins)
		out.v[out.n++] = plugin_ref(p);
	return out;
}

void nri_plugins_release(struct plugins *v)
{
	for (size_t i = 0; i < v->n; i++)
		plugin_unref(v->v[i]);
	v->n = 0;
}

int nri_open(const struct nri_settings *settings, struct pods *pods, struct nri **out, struct err *e)
{
	struct nri *n = mem_new0(struct nri);

	n->settings = *settings;
	n->pods = pods;
	n->listen_fd = n->wake_fd = -1;
	lock_init(&n->lock);
	cond_init(&n->changed);
	list_init(&n->plugins);
	list_init(&n->all);
	nri_hooks_set(n);
	*out = n;
	pods_set_plugins(pods, &n->hooks); /* first: a plugin hears of everything from its synchronisation on */
	return nri_launch(n, e) < 0 || nri_listen(n, e) < 0 ? -1 : 0;
}

/* One that is there still, with a reference. */
static struct plugin *any_plugin(struct nri *n)
{
	LOCKED(&n->lock);

	list_for_each(p, &n->all, struct plugin, in_all)
		if (!plugin_is_closed(p))
			return plugin_ref(p);
	return NULL;
}

void nri_stop(struct nri *n)
{
	uint64_t one = 1;
	struct plugin *p;
	struct err e;

	if (!n)
		return;
	if (n->listener_runs) {
		(void)!write(n->wake_fd, &one, sizeof(one));
		(void)pthread_join(n->listener, NULL);
		n->listener_runs = false;
		(void)fs_remove_file(AT_FDCWD, n->settings.socket, &e);
	}
	fd_close(&n->listen_fd);
	fd_close(&n->wake_fd);
	lock_acquire(&n->lock);
	n->closing = true;
	lock_release(&n->lock);
	while ((p = any_plugin(n))) {
		plugin_close(p, "knarrd ends");
		plugin_unref(p);
	}
	LOCKED(&n->lock);
	while (n->running > 0)
		(void)cond_wait(NULL, &n->changed, &n->lock, &e);
}

void nri_free(struct nri *n)
{
	if (!n)
		return;
	cond_destroy(&n->changed);
	lock_destroy(&n->lock);
	mem_free(n);
}
