/*
 * The message `Word` of talk.proto, read and written by hand, and the methods of its service.
 * Must give the same bytes as the classes that protoc makes of that file.
 */
package peer;

import com.google.protobuf.CodedInputStream;
import com.google.protobuf.CodedOutputStream;
import io.grpc.MethodDescriptor;
import io.grpc.MethodDescriptor.MethodType;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;

record Word(String text, long number, byte[] bulk) {
    static final String SERVICE = "peer.talk.Talk";
    private static final byte[] NONE = {};

    static Word of(String text, long number) { return new Word(text, number, NONE); }

    static MethodDescriptor<Word, Word> method(String name, MethodType type) { return method(SERVICE, name, type); }

    static MethodDescriptor<Word, Word> method(String service, String name, MethodType type) {
        return MethodDescriptor.<Word, Word>newBuilder().setType(type)
            .setFullMethodName(MethodDescriptor.generateFullMethodName(service, name))
            .setRequestMarshaller(new Marshaller()).setResponseMarshaller(new Marshaller()).build();
    }

    private static final class Marshaller implements MethodDescriptor.Marshaller<Word> {
        @Override public InputStream stream(Word word) {
            try {
                ByteArrayOutputStream bytes = new ByteArrayOutputStream(word.bulk.length + 64);
                CodedOutputStream out = CodedOutputStream.newInstance(bytes);
                if (!word.text.isEmpty()) out.writeString(1, word.text);
                if (word.number != 0) out.writeInt64(2, word.number);
                if (word.bulk.length != 0) out.writeByteArray(3, word.bulk);
                out.flush();
                return new ByteArrayInputStream(bytes.toByteArray());
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }

        @Override public Word parse(InputStream stream) {
            try {
                CodedInputStream in = CodedInputStream.newInstance(stream);
                String text = "";
                long number = 0;
                byte[] bulk = NONE;
                for (int tag = in.readTag(); tag != 0; tag = in.readTag()) {
                    switch (tag) {
                        case 1 << 3 | 2 -> text = in.readStringRequireUtf8();
                        case 2 << 3 -> number = in.readInt64();
                        case 3 << 3 | 2 -> bulk = in.readByteArray();
                        default -> throw new IOException("an unknown field, " + tag);
                    }
                }
                return new Word(text, number, bulk);
            } catch (IOException e) {
                throw new UncheckedIOException(e);
            }
        }
    }
}
