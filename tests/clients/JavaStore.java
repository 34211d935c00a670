/* JavaMail's IMAP and POP3 stores through what they know of extensions; a line for each. See test_java_mail.py.
   Words: the ports of imaps, imap and pop3, user, password, another user. */
import com.sun.mail.imap.*;
import java.util.*;
import java.util.concurrent.*;
import javax.mail.*;
import javax.mail.Flags.Flag;
import javax.mail.event.*;
import javax.mail.internet.*;
import javax.mail.search.*;

public class JavaStore {
  static void say(String what, Object value) { System.out.println(what + " " + value); }

  static Session session(String protocol, String more) {
    Properties set = new Properties();
    for (String one : ("ssl.trust=* partialfetch=false " + more).trim().split(" "))
      set.put("mail." + protocol + "." + one.split("=")[0], one.split("=")[1]);
    set.put("mail.mime.allowutf8", "true");
    return Session.getInstance(set);
  }

  static MimeMessage letter(Session session, String subject, int number) throws Exception {
    MimeMessage message = new MimeMessage(session);
    message.setFrom(new InternetAddress("java" + number + "@example.test"));
    message.setSubject(subject);
    message.setText("Gr\u00fc\u00dfe\r\n", "utf-8");
    message.saveChanges();
    return message;
  }

  public static void main(String[] words) throws Exception {
    Session session = session("imaps", "compress.enable=true sasl.enable=false");
    IMAPStore store = (IMAPStore) session.getStore("imaps");
    store.connect("localhost", Integer.parseInt(words[0]), words[3], words[4]);
    say("id", store.id(Map.of("name", "java")).get("name"));
    say("namespaces", store.getUserNamespaces("bob").length + " " + store.getDefaultFolder().getSeparator());
    IMAPFolder box = (IMAPFolder) store.getFolder("J\u00e4va");
    box.create(Folder.HOLDS_MESSAGES);
    AppendUID[] uids = box.appendUIDMessages(new Message[] {
        letter(session, "b", 3), letter(session, "c", 1), letter(session, "a", 2)});
    say("appended", uids[0].uid + " " + uids[1].uid + " " + uids[2].uid);
    box.open(Folder.READ_WRITE, ResyncData.CONDSTORE);
    SortTerm[] by = {SortTerm.REVERSE, SortTerm.SUBJECT};
    StringBuilder order = new StringBuilder();
    for (Message one : box.getSortedMessages(by)) order.append(one.getSubject());
    say("sorted", order);
    say("young", box.search(new YoungerTerm(3600)).length + " " + box.search(new OlderTerm(3600)).length);
    say("found", box.search(new SubjectTerm("c"))[0].getMessageNumber());
    long validity = box.getUIDValidity(), modseq = box.getHighestModSeq();
    box.close(false);

    IMAPStore second = (IMAPStore) session("imap", "starttls.required=true starttls.enable=true").getStore("imap");
    second.connect("localhost", Integer.parseInt(words[1]), words[3], words[4]);
    IMAPFolder same = (IMAPFolder) second.getFolder("J\u00e4va");
    same.open(Folder.READ_WRITE);
    same.setFlags(new int[] {1}, new Flags(Flag.FLAGGED), true);
    AppendUID[] moved = same.moveUIDMessages(new Message[] {same.getMessage(2)}, second.getFolder("Archive"));
    say("moved", moved[0].uid > 0);
    StringBuilder news = new StringBuilder();
    for (MailEvent each : box.open(Folder.READ_WRITE, new ResyncData(validity, modseq)))
      news.append(each instanceof MessageVanishedEvent
          ? "vanished" + Arrays.toString(((MessageVanishedEvent) each).getUIDs())
          : "changed[" + ((MessageChangedEvent) each).getMessage().getFlags().contains(Flag.FLAGGED) + "]");
    say("missed", news);

    BlockingQueue<Integer> arrived = new LinkedBlockingQueue<>();
    box.addMessageCountListener(new MessageCountAdapter() {
      public void messagesAdded(MessageCountEvent event) { arrived.add(event.getMessages().length); }
    });
    Thread idler = new Thread(() -> { try { box.idle(true); } catch (MessagingException gone) { arrived.add(-1); } });
    idler.start();
    same.appendMessages(new Message[] {letter(session, "d", 4)});
    say("pushed", arrived.poll(120, TimeUnit.SECONDS));
    idler.join();

    box.addACL(new ACL(words[5], new Rights("lrs")));
    for (ACL one : box.getACL()) say("acl", one.getName() + "=" + one.getRights());
    say("mine", box.myRights().contains(Rights.Right.ADMINISTER));
    say("rights", box.listRights(words[5]).length > 0);
    box.removeACL(words[5]);
    for (Quota quota : store.getQuota("INBOX"))
      for (Quota.Resource one : quota.resources) say("quota", one.name + "=" + one.limit);
    say("utf8", ((MimeMessage) box.getMessage(1)).getContent().toString().trim());
    box.close(false);
    second.close();
    store.close();

    Store pop = session("pop3", "starttls.required=true starttls.enable=true").getStore("pop3");
    pop.connect("localhost", Integer.parseInt(words[2]), words[3], words[4]);
    Folder inbox = pop.getFolder("INBOX");
    inbox.open(Folder.READ_WRITE);
    com.sun.mail.pop3.POP3Folder drop = (com.sun.mail.pop3.POP3Folder) inbox;
    Message first = inbox.getMessage(1);
    say("uidl", drop.getUID(first).endsWith(".1"));
    say("top", ((com.sun.mail.pop3.POP3Message) first).top(0).read() > 0);
    say("retr", first.getSubject() + " " + first.getSize() + " " + inbox.getMessageCount());
    first.setFlag(Flag.DELETED, true);
    inbox.close(true);
    pop.close();
    System.out.println("DONE");
  }
}
