<?php
/* Horde's IMAP library through what it knows of extensions; prints a line of JSON for each. See test_horde.py.
   Words: port, user, password, another user, the authority's certificate.

   Not asked: partial searches and scores (its parser of both is broken), CATENATE after ENABLE UTF8=ACCEPT
   (it sends a quoted string with line ends); `previousSearch(true)` is how it writes `$` without NOT. */
error_reporting(E_ERROR | E_PARSE);
set_include_path('/usr/share/php');
spl_autoload_register(function ($name) {
    $file = str_replace(['_', '\\'], '/', $name) . '.php';
    if (stream_resolve_include_path($file)) require_once $file;
});

[, $port, $user, $password, $other, $ca] = $argv;
function client(int $port, string $user, string $password, string $ca, array $without = []) {
    return new Horde_Imap_Client_Socket(['username' => $user, 'password' => $password, 'hostspec' => 'localhost',
        'port' => $port, 'secure' => 'tlsv1', 'id' => ['name' => 'horde'], 'lang' => ['en'], 'capability_ignore' => $without,
        'cache' => ['backend' => new Horde_Imap_Client_Cache_Backend_Cache(['cacheob' => new Kept()])],
        'context' => ['ssl' => ['cafile' => $ca, 'verify_peer' => true]]]);
}
class Kept {
    private array $kept = [];
    function get($key, $lifetime) { return $this->kept[$key] ?? false; }
    function set($key, $data, $lifetime = null) { $this->kept[$key] = $data; return true; }
    function exists($key, $lifetime) { return isset($this->kept[$key]); }
    function expire($key) { unset($this->kept[$key]); return true; }
}
function say(string $what, $value): void { echo $what, ' ', json_encode($value), "\n"; }
$h = client($port, $user, $password, $ca);
$h->login();
say('id', $h->getID());
say('namespaces', array_keys(iterator_to_array($h->getNamespaces([], ['ob_return' => true]))));
$h->createMailbox('Horde');
$h->createMailbox('Horde/Entwürfe', ['special_use' => ['\\Drafts']]);
$h->subscribeMailbox('Horde');
$text = fn ($n, $extra = '') => "From: \"Zoe $n\" <z$n@example.test>\r\nTo: h@example.test\r\nSubject: letter $n\r\nMessage-ID: <$n@h>\r\n$extra" .
    "Date: Sun, 22 Nov 2026 10:0$n:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    . base64_encode("Grüße Nummer $n") . "\r\n";
$ids = $h->append('Horde', [['data' => $text(3), 'flags' => ['\\Seen']], ['data' => $text(1, '')], ['data' => $text(2, "References: <1@h>\r\nIn-Reply-To: <1@h>\r\n")]]);
say('appended', $ids->ids);
$head = fopen('php://temp', 'r+'); fwrite($head, "Subject: forwarded\r\nContent-Transfer-Encoding: base64\r\n\r\n"); rewind($head);
$url = new Horde_Imap_Client_Url_Imap_Relative();
$url->mailbox = 'Horde'; $url->uid = 2; $url->section = 'TEXT';
$second = client($port, $user, $password, $ca, ['UTF8=ACCEPT']);
$ids = $second->append('Horde', [['data' => [['t' => 'text', 'v' => $head], ['t' => 'url', 'v' => (string)$url]]]]);
say('catenated', $ids->ids);
$list = $h->listMailboxes('Horde*', Horde_Imap_Client::MBOX_ALL_SUBSCRIBED, ['attributes' => true, 'children' => true, 'special_use' => true, 'status' => Horde_Imap_Client::STATUS_MESSAGES | Horde_Imap_Client::STATUS_UIDNEXT, 'delimiter' => true]);
say('list', array_map(fn ($one) => [$one['attributes'], $one['status']['messages'] ?? null], $list));
$q = new Horde_Imap_Client_Search_Query(); $q->text('nummer');
$r = $h->search('Horde', $q, ['results' => [Horde_Imap_Client::SEARCH_RESULTS_MIN, Horde_Imap_Client::SEARCH_RESULTS_MAX, Horde_Imap_Client::SEARCH_RESULTS_COUNT, Horde_Imap_Client::SEARCH_RESULTS_MATCH, Horde_Imap_Client::SEARCH_RESULTS_SAVE]]);
say('search', [$r['count'], $r['min'], $r['max'], $r['match']->ids, $r['save']]);
$q = new Horde_Imap_Client_Search_Query(); $q->previousSearch(true); $q->headerText('subject', 'letter 2');
say('saved', $h->search('Horde', $q)['match']->ids);
$q = new Horde_Imap_Client_Search_Query(); $q->headerText('subject', 'leter', false, ['fuzzy' => true]);
$r = $h->search('Horde', $q, ['results' => [Horde_Imap_Client::SEARCH_RESULTS_MATCH], 'sort' => [Horde_Imap_Client::SORT_RELEVANCY]]);
say('fuzzy', $r['match']->ids);
$q = new Horde_Imap_Client_Search_Query(); $q->intervalSearch(3600, Horde_Imap_Client_Search_Query::INTERVAL_YOUNGER);
say('within', $h->search('Horde', $q)['match']->ids);
$all = new Horde_Imap_Client_Search_Query();
say('display', $h->search('Horde', $all, ['sort' => [Horde_Imap_Client::SORT_REVERSE, Horde_Imap_Client::SORT_DISPLAYFROM]])['match']->ids);
foreach ([Horde_Imap_Client::THREAD_REFS, Horde_Imap_Client::THREAD_REFERENCES, Horde_Imap_Client::THREAD_ORDEREDSUBJECT] as $kind)
    say('thread', array_map(fn ($t) => array_keys($t), array_values($h->thread('Horde', ['criteria' => $kind])->getThread(2) ? [$h->thread('Horde', ['criteria' => $kind])->getThread(2)] : [])));
$f = new Horde_Imap_Client_Fetch_Query(); $f->bodyPart('1', ['decode' => true, 'peek' => true]); $f->envelope(); $f->modseq(); $f->flags(); $f->structure();
$got = $h->fetch('Horde', $f, ['ids' => new Horde_Imap_Client_Ids([2, 4])]);
foreach ($got as $uid => $one) say('fetch', [$uid, $one->getBodyPart('1'), $one->getBodyPartDecode('1'), $one->getEnvelope()->subject, $one->getModSeq() > 0]);
$token = $h->getSyncToken('Horde');
$h->openMailbox('INBOX');
$before = $h->status('Horde', Horde_Imap_Client::STATUS_HIGHESTMODSEQ)['highestmodseq'];
say('stored', $second->store('Horde', ['ids' => new Horde_Imap_Client_Ids([1]), 'add' => ['\\Flagged'], 'unchangedsince' => $before])->ids);
say('moved', $second->copy('Horde', 'Trash', ['ids' => new Horde_Imap_Client_Ids([3]), 'move' => true, 'force_map' => true]));
$second->expunge('Horde', ['ids' => new Horde_Imap_Client_Ids([4]), 'delete' => true]);
say('late', $h->store('Horde', ['ids' => new Horde_Imap_Client_Ids([1]), 'add' => ['\\Answered'], 'unchangedsince' => $before])->ids);
$s = $h->sync('Horde', $token);
say('sync', [$s->flagsuids->ids, $s->vanisheduids->ids, $s->newmsgsuids->ids]);
$h->setMetadata('Horde', ['/private/comment' => 'Größe']);
say('metadata', $h->getMetadata('Horde', ['/private/comment'], ['depth' => 'infinity', 'maxsize' => 1000]));
say('admin', $h->getMetadata('', ['/shared/admin', '/private/comment']));
$h->setACL('Horde', $other, ['rights' => 'lrs']);
$h->setACL('Horde', $other, ['rights' => 'kx', 'action' => 'add']);
say('acl', array_map('strval', $h->getACL('Horde')));
say('mine', (string) $h->getMyACLRights('Horde'));
say('rights', $h->listACLRights('Horde', $other)['r']);
$h->deleteACL('Horde', $other);
say('quota', $h->getQuotaRoot('INBOX'));
$h->close();
$h->openMailbox('Horde', Horde_Imap_Client::OPEN_READONLY);
$h->close();
$h->logout(); $second->logout();
echo "DONE\n";
